"""The data every later step works on: a catalogue, users' histories, and a leak-free split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedpeft.data.statistics import DataStatistics

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Order = Literal["time", "file", "none"]
"""What histories are ordered by; `none`: nothing, they stand in a random order."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The n items, in index order.

    Attributes
    ----------
    ids
        The source's own item ids, n strings.
    titles
        What a person would call each item, n strings.
    texts
        All text attributes of each item joined, n strings; what the item encoder reads.
    """

    ids: Sequence[str]
    titles: Sequence[str]
    texts: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Histories:
    """Item indices of many users, oldest first, in compressed rows.

    Attributes
    ----------
    indptr
        int64 of shape (users + 1,); user u owns ``items[indptr[u]:indptr[u + 1]]``.
    items
        int64 of shape (interactions,), each in [0, n); no item twice within a user.
    weights
        float32 of shape (interactions,), above 0: how much each counts; None: all count 1.
    """

    indptr: Ints
    items: Ints
    weights: Floats | None = None

    @property
    def n_users(self) -> int:
        return len(self.indptr) - 1

    def lengths(self) -> Ints:
        """Return the number of interactions of each user, int64 of shape (users,)."""
        return np.diff(self.indptr)

    def of(self, user: int) -> Ints:
        """Return one user's items, oldest first."""
        return self.items[self.indptr[user] : self.indptr[user + 1]]

    def weights_of(self, user: int) -> Floats | None:
        """Return the weights of one user's items; None: all count 1."""
        if self.weights is None:
            return None
        return self.weights[self.indptr[user] : self.indptr[user + 1]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A catalogue and its users' complete histories, as read.

    Attributes
    ----------
    counts
        What reading found and did: interactions read, duplicates dropped, unknown items dropped,
        users dropped, and so on.
    order
        What the histories are ordered by.
    notes
        Sentences on what reading found that its user should know.
    """

    name: str
    catalogue: Catalogue
    user_ids: Sequence[str]
    histories: Histories
    counts: Mapping[str, int] = field(default_factory=dict)
    order: Order = "time"
    notes: Sequence[str] = ()

    @property
    def has_texts(self) -> bool:
        """Whether any item of the catalogue has a text."""
        return any(text.strip() for text in self.catalogue.texts)

    @property
    def n_users(self) -> int:
        return self.histories.n_users

    @property
    def n_items(self) -> int:
        return len(self.catalogue)


@dataclass(frozen=True, eq=False)
class Split:
    """Leave-one-out: the last item of each user is test, the second last validation.

    Where histories are in no order, these are any two of the user's items.

    Attributes
    ----------
    train
        All users' training histories.
    validation, test
        int64 of shape (users,): the held-out item of each user.
    eval_users
        int64 of shape (e,), ascending: the users that metrics are computed on (all of them unless a
        sample was asked for).
    negatives
        int64 of shape (e, c): for each evaluated user, c distinct items the user never interacted
        with in any part; -1 pads rows of users for whom fewer than c exist.
    fingerprint
        SHA-256 over everything above, and over weights where there are any.
    validation_weights
        float32 of shape (users,): how much each validation item counts once it is known; None: 1.
    ordered
        Whether histories are in an order, so that an interaction has an age.
    """

    n_items: int
    train: Histories
    validation: Ints
    test: Ints
    eval_users: Ints
    negatives: Ints
    fingerprint: str
    validation_weights: Floats | None = None
    ordered: bool = True

    @property
    def n_users(self) -> int:
        return self.train.n_users

    @property
    def statistics(self) -> DataStatistics:
        """The sizes of the train part, which settings are derived from."""
        return DataStatistics(self.n_users, self.n_items, len(self.train.items))

    def before(self, part: Literal["validation", "test"]) -> Histories:
        """Return what each user's own device knows when the held-out item of `part` comes.

        That is the train part and, before the test item, the validation item too.  A device may fit
        local parameters to it when it scores; no payload was ever trained on it.
        """
        if part == "validation":
            return self.train
        ends = self.train.indptr[1:]
        items = np.insert(self.train.items, ends, self.validation)
        weights = self.train.weights
        if weights is not None and self.validation_weights is not None:
            weights = np.insert(weights, ends, self.validation_weights)
        return Histories(self.train.indptr + np.arange(len(self.train.indptr)), items, weights)
