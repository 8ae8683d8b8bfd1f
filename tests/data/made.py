"""Small data sets made up for the tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from fedpeft.data import Catalogue, Dataset, Histories


def histories(rows: Sequence[Sequence[int]]) -> Histories:
    """Compress lists of items."""
    indptr = np.zeros(len(rows) + 1, np.int64)
    indptr[1:] = np.cumsum([len(row) for row in rows])
    items = np.array([item for row in rows for item in row], np.int64)
    return Histories(indptr, items)


def dataset(rows: Sequence[Sequence[int]], n_items: int) -> Dataset:
    """Make a data set of these histories."""
    words = [f"word{i}" for i in range(n_items)]
    return Dataset(
        name="made",
        catalogue=Catalogue(words, words, words),
        user_ids=[f"u{u}" for u in range(len(rows))],
        histories=histories(rows),
    )


@st.composite
def ragged(draw: st.DrawFn, *, shortest: int = 0, spare: int = 0) -> tuple[list[list[int]], int]:
    """Draw histories and a catalogue size; `spare` items at least stay outside each history."""
    n_items = draw(st.integers(max(1, shortest + spare), 30))
    row = st.lists(
        st.integers(0, n_items - 1), unique=True, min_size=shortest, max_size=n_items - spare
    )
    return draw(st.lists(row, max_size=6)), n_items
