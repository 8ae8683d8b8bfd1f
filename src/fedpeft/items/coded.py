"""A base as codes and codebooks: what a client downloads where these stand for the rows.

The bytes are the number of levels (1 byte) and of codes in a level (4), the packed codes, item
after item, and the codebooks as float32 rows.
"""

from __future__ import annotations

from struct import Struct

import numpy as np
import torch
from torch import Tensor

from fedpeft.errors import ArtifactError
from fedpeft.items.quantise import sum_entries
from fedpeft.packing import pack_bits, unpack_bits

_HEAD = Struct("<BI")


def coded_bytes(items: int, dim: int, levels: int, codes: int) -> int:
    """Return the length of `pack_coded`'s result."""
    return _HEAD.size + -(-items * levels * _bits(codes) // 8) + 4 * levels * codes * dim


def pack_coded(codes: Tensor, books: Tensor) -> bytes:
    """Return a coded base as bytes.

    Parameters
    ----------
    codes
        int64 (n, levels), each in [0, d).
    books
        float32 (levels, d, k).
    """
    levels, size, _ = books.shape
    packed = pack_bits(codes, _bits(size))
    return _HEAD.pack(levels, size) + packed + books.cpu().numpy().astype("<f4").tobytes()


def unpack_coded(data: bytes, items: int, dim: int) -> Tensor:
    """Return the base that bytes stand for, float32 (n, k).

    Raises
    ------
    ArtifactError
        If the bytes are not a coded base of `items` rows and `dim` columns.
    """
    if len(data) < _HEAD.size:
        raise ArtifactError(f"a coded base takes more than {len(data)} bytes")
    levels, size = _HEAD.unpack_from(data)
    expected = coded_bytes(items, dim, levels, size)
    if not levels or size < 2 or len(data) != expected:  # one code takes no bits to tell
        raise ArtifactError(
            f"a base of {items} items with {levels} x {size} codes takes {expected} bytes, "
            f"got {len(data)}"
        )
    table = 4 * levels * size * dim
    codes = unpack_bits(data[_HEAD.size : len(data) - table], _bits(size), items * levels)
    if codes.numel() and int(codes.max()) >= size:
        raise ArtifactError(f"a code must be below {size}, got {int(codes.max())}")
    books = np.frombuffer(data, "<f4", offset=len(data) - table).copy()
    return sum_entries(torch.from_numpy(books).view(levels, size, dim), codes.view(items, levels))


def _bits(codes: int) -> int:
    return (codes - 1).bit_length()
