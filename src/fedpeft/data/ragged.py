"""Index arithmetic on many short lists kept in one array, and uniform draws from what they miss."""

from __future__ import annotations

import numpy as np

from fedpeft.data.dataset import Histories, Ints


def indptr_of(lengths: Ints) -> Ints:
    """Return row pointers, int64 of shape (rows + 1,), of rows with these lengths."""
    indptr = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    return indptr


def row_of(lengths: Ints) -> Ints:
    """Return the row number of every element of rows with these lengths, int64."""
    return np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)


def take(histories: Histories, users: Ints) -> Histories:
    """Return the histories of `users`, in that order, as a new compressed structure."""
    starts = histories.indptr[users]
    lengths = histories.indptr[users + 1] - starts
    indptr = indptr_of(lengths)
    places = np.arange(indptr[-1], dtype=np.int64) + np.repeat(starts - indptr[:-1], lengths)
    weights = histories.weights
    return Histories(indptr, histories.items[places], None if weights is None else weights[places])


def sort_rows(histories: Histories, n_items: int) -> Histories:
    """Return the same histories, without weights, with each user's items in ascending order."""
    row = row_of(histories.lengths())
    keys = row * n_items + histories.items
    keys.sort()
    return Histories(histories.indptr, keys - row * n_items)


class Complement:
    """The items that each row does not hold, addressed by rank.

    The r-th smallest item missing from a row with ascending items o_0 < o_1 < ... is
    ``r + #{i : o_i - i <= r}``, because o_i - i missing items lie below o_i.  So a uniform rank is
    a uniform item of the complement: exact, without trying again, however full the row is.

    Parameters
    ----------
    rows
        Histories with ascending items (see `sort_rows`).
    n_items
        Size of the catalogue.
    """

    def __init__(self, rows: Histories, n_items: int) -> None:
        self._n = n_items
        self._indptr = rows.indptr
        lengths = rows.lengths()
        row = row_of(lengths)
        place = np.arange(len(rows.items), dtype=np.int64) - rows.indptr[row]
        self._keys = row * n_items + rows.items - place
        self.sizes: Ints = n_items - lengths

    def at(self, row: Ints, rank: Ints) -> Ints:
        """Return the item of each rank (0 <= rank < sizes[row]) in each row's complement."""
        below = np.searchsorted(self._keys, row * self._n + rank, side="right")
        return rank + below - self._indptr[row]
