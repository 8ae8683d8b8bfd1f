"""A coded base as bytes: read back as it was, and rubbish is refused before memory is taken."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.errors import ArtifactError
from fedpeft.items.coded import coded_bytes, pack_coded, unpack_coded


@settings(deadline=None)
@given(
    items=st.integers(1, 9),
    levels=st.integers(1, 3),
    size=st.integers(2, 9),
    dim=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_round_trip(items: int, levels: int, size: int, dim: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    codes = torch.randint(size, (items, levels), generator=rng)
    books = torch.randn(levels, size, dim, generator=rng)
    data = pack_coded(codes, books)
    assert len(data) == coded_bytes(items, dim, levels, size)
    expected = sum(books[level][codes[:, level]] for level in range(levels))
    torch.testing.assert_close(unpack_coded(data, items, dim), expected)


@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=120))
def test_rubbish(data: bytes) -> None:
    with suppress(ArtifactError):
        assert unpack_coded(data, 6, 2).shape == (6, 2)


def test_one_code_a_level_would_take_no_bits() -> None:
    bomb = struct.pack("<BI", 255, 1) + bytes(4 * 255 * 8)
    with pytest.raises(ArtifactError, match="takes"):
        unpack_coded(bomb, 200_000, 8)
