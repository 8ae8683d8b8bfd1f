"""Who takes part in a round, and what each of them trains on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from fedpeft.data.dataset import Floats, Histories, Ints
from fedpeft.data.negatives import TrainNegatives
from fedpeft.data.ragged import take
from fedpeft.data.recency import RecencyConfig
from fedpeft.memory import LIMITS
from fedpeft.seeding import numpy_rng
from fedpeft.simulation.bucket import Bucket
from fedpeft.streams import ClientStream
from fedpeft.training.task import Task


@dataclass(frozen=True, eq=False)
class Cohort:
    """The clients of one round with their train items and negatives, sorted by history length.

    Attributes
    ----------
    rows
        int64 (c,), by ascending history length: places in the population.
    ids
        int64 (c,): numbers that name the clients' streams.
    lengths
        int64 (c,).
    items
        int64 (sum of lengths, 1 + m): each train item with its negatives, client after client,
        oldest first.
    recency
        How the age of a train item weighs it.
    counting
        float32 (sum of lengths,): how much each train item counts, whatever its age; None: 1.
    """

    rows: Ints
    ids: Ints
    lengths: Ints
    items: Ints
    recency: RecencyConfig
    counting: Floats | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def starts(self) -> Ints:
        """Where each client's rows begin in `items`."""
        starts: Ints = np.cumsum(self.lengths) - self.lengths
        return starts

    def of(self, position: int) -> Ints:
        """Return one client's items and negatives, int64 (length, 1 + m)."""
        start = self.starts[position]
        return self.items[start : start + self.lengths[position]]

    def distinct(self, n_items: int) -> Ints:
        """Return how many items each client touches, int64 (c,): train items and negatives."""
        client = np.repeat(np.arange(len(self)), self.lengths * self.items.shape[1])
        keys = np.unique(client * n_items + self.items.ravel())
        return np.bincount(keys // n_items, minlength=len(self))

    def weights(self, start: int, end: int) -> Floats:
        """Return the weights of neighbouring clients' items, float32 (C, L), padded with 0."""
        lengths = self.lengths[start:end, None]
        places = np.arange(max(1, lengths.max()))
        inside = places < lengths
        # ages count interactions, so they mean the same for the eager and the occasional user
        weight = np.where(inside, self.recency.weights(lengths - 1 - places), 0).astype(np.float32)
        if self.counting is not None:
            first = self.starts[start]
            weight[inside] *= self.counting[first : first + lengths.sum()]
        return weight

    def touched(
        self, n_items: int, everything: bool, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """Return the items whose vectors the round needs, and where each item stands among them.

        A position of None means that all items are there.  Leaving items out pays only where the
        catalogue is much larger than what the cohort touches.
        """
        if everything or n_items <= 4 * self.items.size:
            return torch.arange(n_items, device=device), None
        seen = torch.zeros(n_items, dtype=torch.bool)
        seen[torch.from_numpy(self.items).flatten()] = True
        seen[0] = True  # padding looks item 0 up
        rows = seen.nonzero().squeeze(1)
        position = torch.empty(n_items, dtype=torch.int64)
        position[rows] = torch.arange(len(rows))
        return rows.to(device), position.to(device)

    def buckets(self, values: int, device: torch.device) -> Iterator[Bucket]:
        """Yield padded buckets of neighbouring clients, as `fedpeft.memory` limits them.

        Parameters
        ----------
        values
            Float32 values that are computed for an item.
        """
        limits = LIMITS[device.type]
        item_bytes = 4 * values * self.items.shape[1]
        padded = item_bytes * np.maximum(self.lengths, 1)  # of a client, if it is the longest
        start = 0
        while start < len(self):
            shortest = max(int(self.lengths[start]), 8)
            alike = int(np.searchsorted(self.lengths, limits.spread * shortest, side="right"))
            sizes = padded[start:] * np.arange(1, len(self) - start + 1)
            small = start + int(np.searchsorted(sizes, limits.worthwhile, side="right"))
            fitting = start + int(np.searchsorted(sizes, limits.most, side="right"))
            end = max(start + 1, min(max(alike, small), fitting))
            yield self._bucket(start, end, device)
            start = end

    def _bucket(self, start: int, end: int, device: torch.device) -> Bucket:
        lengths = self.lengths[start:end]
        weight = self.weights(start, end)
        items = np.zeros((*weight.shape, self.items.shape[1]), dtype=np.int64)
        first = self.starts[start]
        inside = np.arange(weight.shape[1]) < lengths[:, None]
        items[inside] = self.items[first : first + lengths.sum()]
        return Bucket(
            torch.from_numpy(self.rows[start:end]).to(device),
            torch.from_numpy(self.ids[start:end]).to(device),
            torch.from_numpy(items).to(device),
            torch.from_numpy(weight).to(device),
            torch.from_numpy(lengths).to(device),
        )


class CohortSampler:
    """Draws the cohort of each round, and each client's negatives from its own stream.

    Parameters
    ----------
    train
        Histories of the population, by row.
    share
        Share of the clients in a round.
    negatives
        Negatives for each train item.
    ids
        int64 (clients,): numbers that name the clients' streams; None: their rows.
    """

    def __init__(
        self,
        train: Histories,
        n_items: int,
        *,
        share: float,
        negatives: int,
        recency: RecencyConfig,
        seed: int,
        ids: Ints | None = None,
    ) -> None:
        self._train = train
        self._ids: Ints = np.arange(train.n_users, dtype=np.int64) if ids is None else ids
        self._lengths = train.lengths()
        self._negatives = TrainNegatives(train, n_items) if negatives else None
        self._per_positive = negatives
        self._recency = recency
        self._seed = seed
        self.size = min(train.n_users, max(1, round(share * train.n_users)))

    @classmethod
    def of(
        cls, task: Task, train: Histories, *, share: float = 1.0, ids: Ints | None = None
    ) -> Self:
        """Return what draws cohorts of a task's clients; parameters as for the class."""
        return cls(
            train,
            task.n_items,
            share=share,
            negatives=task.loss.negatives,
            recency=task.training.recency,
            seed=task.seed,
            ids=ids,
        )

    def rows(self, round_number: int) -> Ints:
        """Return who takes part in a round: a uniform sample without replacement, int64 (c,)."""
        rng = numpy_rng(self._seed, "round", round_number, "cohort")
        drawn = rng.choice(self._train.n_users, self.size, replace=False, shuffle=False)
        return self._sorted(drawn)

    def draw(self, round_number: int) -> Cohort:
        """Return the cohort of a round with what its clients train on."""
        return self._cohort(self.rows(round_number), "round", round_number, "negatives")

    def each(self, rows: Ints, *stream: str | int) -> Cohort:
        """Return the given clients as a cohort, with negatives from a stream of this name."""
        return self._cohort(self._sorted(rows), *stream)

    def check(self) -> None:
        """Raise `DataError` if negatives are to be drawn for a user who has every item."""
        if self._negatives is not None:
            self._negatives.check(np.arange(self._train.n_users))

    def _sorted(self, rows: Ints) -> Ints:
        """Return rows by ascending history length."""
        ordered: Ints = rows[np.lexsort((rows, self._lengths[rows]))]
        return ordered

    def _cohort(self, rows: Ints, *stream: str | int) -> Cohort:
        taken = take(self._train, rows)
        items = taken.items[:, None]
        if self._negatives is not None:
            drawn = self._negatives.sample(
                rows, self._per_positive, ClientStream(self._seed, *stream), self._ids[rows]
            )
            items = np.concatenate([items, drawn], axis=1)
        return Cohort(
            rows, self._ids[rows], self._lengths[rows], items, self._recency, taken.weights
        )
