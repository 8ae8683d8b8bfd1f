"""A subspace as bytes: the frozen tensors of an adapter, as a client downloads them.

The general form tells each tensor's name, type and shape and then its values, little-endian, in the
order of the names.  An adapter that knows better packs its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from struct import Struct, error

import numpy as np
import torch
from torch import Tensor

from fedpeft.errors import ArtifactError

_HEAD = Struct("<BBB")
_DTYPES = {
    torch.int64: "<i8",
    torch.int32: "<i4",
    torch.uint8: "u1",
    torch.float32: "<f4",
}
_CODES = list(_DTYPES)


def packed_size(tensors: Mapping[str, Tensor]) -> int:
    """Return the length of `pack`'s result, from names, types and shapes alone."""
    return sum(
        _HEAD.size + len(name.encode()) + 4 * t.dim() + t.numel() * t.element_size()
        for name, t in tensors.items()
    )


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Return named tensors as bytes; none are no bytes."""
    parts = []
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        title = name.encode()
        parts.append(_HEAD.pack(len(title), _CODES.index(tensor.dtype), tensor.dim()))
        parts.append(title + np.array(tensor.shape, "<u4").tobytes())
        parts.append(tensor.numpy().astype(_DTYPES[tensor.dtype]).tobytes())
    return b"".join(parts)


def unpack(data: bytes) -> dict[str, Tensor]:
    """Undo `pack`; raises `ArtifactError` for bytes that cannot have come from it."""
    tensors: dict[str, Tensor] = {}
    start = 0
    try:
        while start < len(data):
            length, code, dims = _HEAD.unpack_from(data, start)
            start += _HEAD.size
            name = data[start : start + length].decode()
            start += length
            shape = np.frombuffer(data, "<u4", dims, start).tolist()
            start += 4 * dims
            dtype = np.dtype(_DTYPES[_CODES[code]])
            values = np.frombuffer(data, dtype, math.prod(shape), start)  # refuses too few bytes
            start += values.nbytes
            if name in tensors:
                raise ValueError
            tensors[name] = torch.from_numpy(values.copy()).reshape(shape)
    except (error, IndexError, ValueError, OverflowError, RuntimeError):
        raise ArtifactError("the bytes of a subspace are cut off or malformed") from None
    return tensors
