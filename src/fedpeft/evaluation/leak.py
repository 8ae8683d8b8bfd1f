"""The leak oracle: does the choice of training negatives give the held-out items away?

Training negatives may exclude a user's train items only.  Where they exclude the held-out item too,
"the item this user was never given as a negative" *is* the answer, and a model can learn it without
learning anything about taste.  The oracle scores exactly that and nothing else.  With uniform
negatives that exclude train items only, a held-out item's count is distributed like that of any
other candidate, so the oracle must sit at chance; with the leak it approaches HR = 1 as draws grow.
A candidate drawn for a user m times on average stays undrawn with probability about exp(-m), so
let m be 5 or more, or a leak may go unseen.

Equal counts are broken by seeded noise.  Ranking counts ties against the scorer, so without noise a
blind oracle would score far below chance, which would hide a leak as long as draws are few.

Popularity-weighted negatives move the oracle below chance (held-out items are popular, so they are
drawn more often), never above: read the audit one-sided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedpeft.data.dataset import Ints, Split
from fedpeft.errors import ConfigError, DataError
from fedpeft.evaluation.metrics import hits
from fedpeft.evaluation.protocol import Holdout, Scorer, rank_users
from fedpeft.seeding import numpy_rng

_MAX_CELLS = 2**27  # int32 counts: 512 MiB


@dataclass(frozen=True)
class LeakAudit:
    """How far the oracle is from chance under sampled ranking.

    Attributes
    ----------
    hit_rate
        HR@10 of the oracle.
    chance
        HR@10 of a random order: the mean over users of ``min(1, 10 / (negatives + 1))``.
    standard_error
        Standard deviation of `hit_rate` under a random order.
    """

    hit_rate: float
    chance: float
    standard_error: float

    @property
    def leaks(self) -> bool:
        """Whether the oracle is more than 4 standard errors above chance (p of about 3e-5)."""
        return self.hit_rate > self.chance + 4.0 * self.standard_error


class LeakOracle:
    """Counts the training negatives drawn for each user and scores "never drawn" highest.

    Parameters
    ----------
    n_users, n_items
        Size of the data; meant for small catalogues, at most 2**27 pairs (512 MiB).
    seed
        Seed of the tie-breaking noise.

    Raises
    ------
    ConfigError
        If there are too many pairs to count.
    """

    def __init__(self, n_users: int, n_items: int, seed: int = 0) -> None:
        if n_users * n_items > _MAX_CELLS:
            raise ConfigError(
                f"the leak oracle counts every pair: {n_users} users x {n_items} items is more "
                f"than {_MAX_CELLS}; audit a sample of the users or a smaller catalogue"
            )
        self._counts = np.zeros((n_users, n_items), dtype=np.int32)
        self._seed = seed

    def observe(self, users: NDArray[np.integer], items: NDArray[np.integer]) -> None:
        """Count drawn negatives.

        Parameters
        ----------
        users, items
            Integers of one shape: `items` was drawn as a negative for `users`.  An item of -1 is
            padding and is not counted.

        Raises
        ------
        DataError
            If the shapes differ or an index is out of range.
        """
        if users.shape != items.shape:
            raise DataError(
                f"drawn negatives: users have shape {users.shape} but items {items.shape}; "
                "one shape is needed"
            )
        drawn = items != -1
        rows, columns = users[drawn].astype(np.int64), items[drawn].astype(np.int64)
        for name, values, bound in zip(
            ("user", "item"), (rows, columns), self._counts.shape, strict=True
        ):
            if len(values) and not 0 <= values.min() <= values.max() < bound:
                raise DataError(f"drawn negatives: a {name} index is outside [0, {bound})")
        cells, times = np.unique(rows * self._counts.shape[1] + columns, return_counts=True)
        self._counts.reshape(-1)[cells] += times.astype(np.int32)

    def scorer(self) -> Scorer:
        """Return a scorer: minus the count, equal counts in a seeded random order."""

        def score(users: Tensor) -> Tensor:
            rows: Ints = users.cpu().numpy()
            # A stream for each user, so that the order does not depend on how users are chunked.
            noise = [
                numpy_rng(self._seed, "leak oracle", int(user)).random(
                    self._counts.shape[1], dtype=np.float32
                )
                for user in rows
            ]
            # In float64: a large count would swallow noise that is added in float32.
            return torch.from_numpy(np.array(noise, dtype=np.float64) - self._counts[rows])

        return score

    def audit(self, split: Split, part: Holdout = "test") -> LeakAudit:
        """Compare the oracle's sampled HR@10 with chance."""
        ranks = rank_users(self.scorer(), split, part).sampled
        likely = np.minimum(1.0, 10.0 / ((split.negatives >= 0).sum(axis=1) + 1.0))
        return LeakAudit(
            hit_rate=float(hits(ranks, 10).mean()),
            chance=float(likely.mean()),
            standard_error=math.sqrt(float((likely * (1.0 - likely)).sum())) / len(likely),
        )
