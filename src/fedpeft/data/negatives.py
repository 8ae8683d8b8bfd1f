"""Training negatives, drawn anew every round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedpeft.data.dataset import Histories, Ints
from fedpeft.data.ragged import Complement, row_of, sort_rows, take
from fedpeft.errors import DataError
from fedpeft.streams import ClientStream

_CELLS_PER_DRAW = 256  # a larger table costs more to clear than binary searches cost (measured)


class TrainNegatives:
    """Uniform negatives for a cohort, outside each user's **train** history.

    Held-out items may be drawn.  Leaving them out would tell the model which items a user will
    interact with later: an oracle that only counts which items are never drawn as negatives would
    then rank the test item first for every user, without any model (design section 6).

    Parameters
    ----------
    train
        Training histories of all users.
    n_items
        Size of the catalogue; items are 0 .. n_items - 1.
    max_bitmap_bytes
        Membership is looked up in a byte table of cohort x n_items where that pays and stays below
        this size, and by binary search elsewhere; the draws are the same.
    """

    def __init__(
        self, train: Histories, n_items: int, *, max_bitmap_bytes: int = 256 * 2**20
    ) -> None:
        self._train = sort_rows(train, n_items)
        self._n = n_items
        self._max_bitmap_bytes = max_bitmap_bytes

    def check(self, users: Ints) -> None:
        """Raise `DataError` if a user's history holds the whole catalogue: no negative exists."""
        full = users[self._train.lengths()[users] >= self._n]
        if len(full):
            raise DataError(
                f"user {full[0]} has all {self._n} items in the train part, so no negative exists; "
                "drop the user or use a larger catalogue"
            )

    def sample(
        self, users: Ints, per_positive: int, stream: ClientStream, ids: Ints | None = None
    ) -> Ints:
        """Draw `per_positive` negatives for every train positive of `users`.

        Parameters
        ----------
        users
            int64 of shape (cohort,): rows of the histories.
        per_positive
            Negatives per positive, at least 1.
        stream
            What a client draws depends on its own id alone, not on who else is asked for.
        ids
            int64 of shape (cohort,): what the clients are called in `stream`; None: as `users`.

        Returns
        -------
        int64 of shape (sum of train lengths of `users`, per_positive), aligned with their
        concatenated train positives.

        Raises
        ------
        DataError
            As `check`.
        """
        self.check(users)
        rows = take(self._train, users)
        draws = per_positive * rows.lengths()
        row = row_of(draws)
        who = users if ids is None else ids
        place = np.arange(len(row))
        place -= (np.cumsum(draws) - draws)[row]
        place *= 2  # the odd ones are for second tries
        drawn = stream.below(who, place, self._n, row)
        hits = np.flatnonzero(self._holds(rows, row, drawn))
        if len(hits):  # uniform given a miss; a hit is replaced by an exact draw, so no third try
            missing = Complement(rows, self._n)
            left = missing.sizes[row[hits]]
            rank = stream.below(who, place[hits] + 1, left, row[hits])
            drawn[hits] = missing.at(row[hits], rank)
        return drawn.reshape(-1, per_positive)

    def _holds(self, rows: Histories, row: Ints, item: Ints) -> NDArray[np.bool_]:
        """Return whether each `row` holds each `item`, bool."""
        owned = row_of(rows.lengths()) * self._n + rows.items
        asked = row * self._n + item
        found: NDArray[np.bool_]
        cells = rows.n_users * self._n
        if cells <= min(self._max_bitmap_bytes, _CELLS_PER_DRAW * len(asked)):
            table = np.zeros(cells, np.bool_)
            table[owned] = True
            found = table[asked]
        else:
            closed = np.append(owned, np.iinfo(np.int64).max)  # every search ends on a key
            found = closed[np.searchsorted(closed, asked)] == asked
        return found
