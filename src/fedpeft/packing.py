"""Whole numbers of few bits, packed into bytes: how codes travel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedpeft.errors import ArtifactError


def pack_bits(values: Tensor, bits: int) -> bytes:
    """Return integers in [0, 2^bits), int64 of any shape, as so many bits each, low bits first."""
    flat = values.cpu().numpy().reshape(-1, 1)
    spread = (flat >> np.arange(bits)) & 1
    return np.packbits(spread.astype(np.uint8).ravel(), bitorder="little").tobytes()


def unpack_bits(data: bytes, bits: int, count: int) -> Tensor:
    """Undo `pack_bits`, int64 (count,); raises `ArtifactError` where the length is another."""
    if len(data) != -(-bits * count // 8):
        raise ArtifactError(
            f"{count} codes of {bits} bits take {-(-bits * count // 8)} bytes, got {len(data)}"
        )
    spread = np.unpackbits(np.frombuffer(data, np.uint8), count=bits * count, bitorder="little")
    weights = 1 << np.arange(bits, dtype=np.int64)
    return torch.from_numpy(spread.reshape(count, bits).astype(np.int64) @ weights)
