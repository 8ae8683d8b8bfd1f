"""Implicit alternating least squares on the whole training data.

Minimises, over user vectors u and item vectors v,

    sum over observed w (u.v - 1)^2 + a0 * sum over all (u.v)^2
    + lambda * (sum over users (c_u + a0 n) |u|^2 + sum over items (c_v + a0 m) |v|^2)

with w the weight of the interaction by its age and event, 1 by default; c the sum of a row's
weights; n items and m users (Hu, Koren and Volinsky 2008, "Collaborative filtering for implicit
feedback datasets", with the frequency-scaled regularisation, nu = 1, of Rendle et al. 2022,
"Revisiting the performance of iALS").  With one side fixed every row of the other has a closed
form, a dim x dim ridge system; the rows are solved in batches of like length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fedpeft.config import ConfigModel
from fedpeft.data.dataset import Histories, Ints
from fedpeft.data.ragged import indptr_of, row_of
from fedpeft.data.recency import RecencyConfig
from fedpeft.data.statistics import DataStatistics
from fedpeft.errors import RunError
from fedpeft.seeding import torch_rng

_BATCH_CELLS = 2**15  # padded interactions gathered at once; 4 MiB of float32 at dim 32


class ALSConfig(ConfigModel):
    """Settings of the centralised matrix factorisation."""

    dim: int = Field(default=32, ge=1)
    """Length of the user and item vectors."""
    sweeps: int = Field(default=12, ge=1)
    """How often both sides are solved."""
    unobserved_weight: float = Field(ge=0)
    """a0: weight of the pull of all scores towards 0; the denser the data, the larger."""
    regularisation: float = Field(gt=0)
    """lambda: weight of a vector's squared length, for each unit of weight in its row."""
    recency: RecencyConfig = RecencyConfig()
    """How the age of an interaction weighs it."""

    @classmethod
    def by_rule(cls, statistics: DataStatistics, **settings: Any) -> Self:
        """Return the settings that the data's sizes suggest, with others as given."""
        return cls(
            unobserved_weight=statistics.unobserved_weight,
            regularisation=statistics.frequency_decay,
            **settings,
        )

    def work(self, statistics: DataStatistics) -> float:
        """Return about how many multiply-adds a fit takes."""
        return 2 * self.sweeps * self.dim**2 * statistics.interactions


def fit_als(
    train: Histories, n_items: int, config: ALSConfig, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Factorise the training interactions.

    Parameters
    ----------
    train
        All users' training histories.
    n_items
        Number of items n.
    config
        Settings.
    seed
        Seed of the item vectors' start.

    Returns
    -------
    users, items
        float32 of shapes (users, dim) and (n, dim).  Rows without interactions are zero.

    Raises
    ------
    RunError
        If a ridge system cannot be solved in float32 (regularisation too small).
    """
    weights = config.recency.of(train)
    by_user = list(_batches(train.indptr, train.items, weights, n_items, config.dim))
    by_item = list(_batches(*_transpose(train, weights, n_items), train.n_users, config.dim))
    # the stream has the name that baselines had once: another would draw other numbers
    items = torch.randn(n_items, config.dim, generator=torch_rng(seed, "floors", "als"))
    items *= 0.1 / math.sqrt(config.dim)
    users = torch.zeros(train.n_users, config.dim)
    for _ in range(config.sweeps):
        users = _solve(users, items, by_user, config)
        items = _solve(items, users, by_item, config)
    return users, items


def solve_users(items: Tensor, histories: Histories, config: ALSConfig) -> Tensor:
    """Return user vectors, float32 (users, dim), for given item vectors and histories."""
    weights = config.recency.of(histories)
    batches = list(_batches(histories.indptr, histories.items, weights, len(items), config.dim))
    return _solve(torch.zeros(histories.n_users, config.dim), items, batches, config)


def _solve(
    solved: Tensor, fixed: Tensor, batches: list[tuple[Tensor, Tensor, Tensor]], config: ALSConfig
) -> Tensor:
    """Return the vectors of one side (shaped as `solved`), given the `fixed` other side.

    In the principal axes of the fixed side what all its rows add to a system is a diagonal D.  So
    the system of a row with fewer interactions than dimensions becomes one of its interactions:
    ``(D + V'V)^-1 V' = D^-1 V' (I + V D^-1 V')^-1``.
    """
    a0, dim = config.unobserved_weight, fixed.shape[1]
    values, axes = torch.linalg.eigh(fixed.T @ fixed)
    padded = torch.cat([fixed @ axes, torch.zeros(1, dim)])  # the padding index is the last row's
    turned = torch.zeros_like(solved)
    for rows, columns, weights in batches:
        roots = weights.sqrt()
        seen = padded[columns] * roots[..., None]
        decay = config.regularisation * (weights.sum(1) + a0 * len(fixed))
        common = a0 * values.clamp(min=0) + decay[:, None]
        if columns.shape[1] < dim:
            scaled = seen / common[:, None]
            systems = scaled @ seen.mT
            systems.diagonal(dim1=1, dim2=2).add_(1)
            found = scaled.mT @ _solved(systems, roots[..., None], config)
        else:
            systems = seen.mT @ seen
            systems.diagonal(dim1=1, dim2=2).add_(common)
            found = _solved(systems, seen.mT @ roots[..., None], config)
        turned[rows] = found[..., 0]
    result: Tensor = turned @ axes.T
    return result


def _solved(systems: Tensor, sides: Tensor, config: ALSConfig) -> Tensor:
    """Solve positive definite systems (b, m, m) for right-hand sides (b, m, 1)."""
    factors, trouble = torch.linalg.cholesky_ex(systems)
    if bool(trouble.any()):
        raise RunError(
            f"a system of the matrix factorisation is singular in float32; regularisation = "
            f"{config.regularisation:g} is too small"
        )
    return torch.cholesky_solve(sides, factors)


def _batches(
    indptr: Ints, columns: Ints, weights: NDArray[np.float32], n_columns: int, dim: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield batches of non-empty rows of like length: rows (b,), columns and weights (b, length).

    Rows go from long to short, so a batch is as wide as its first row and padding, the column index
    `n_columns`, stays small.
    """
    lengths = np.diff(indptr)
    order = np.argsort(-lengths, kind="stable")
    order = order[: np.count_nonzero(lengths)]
    start = 0
    while start < len(order):
        width = int(lengths[order[start]])
        rows = order[start : start + max(1, _BATCH_CELLS // max(width, dim))]
        start += len(rows)
        offsets = np.arange(width)
        inside = offsets < lengths[rows, None]
        cells = np.where(inside, indptr[rows, None] + offsets, 0)
        yield (
            torch.from_numpy(rows),
            torch.from_numpy(np.where(inside, columns[cells], n_columns)),
            torch.from_numpy(np.where(inside, weights[cells], np.float32(0))),
        )


def _transpose(
    histories: Histories, weights: NDArray[np.float32], n_items: int
) -> tuple[Ints, Ints, NDArray[np.float32]]:
    """Return the users of each item and the weights, as ``(indptr, users, weights)``."""
    users = row_of(histories.lengths())
    indptr = indptr_of(np.bincount(histories.items, minlength=n_items))
    order = np.argsort(histories.items, kind="stable")
    return indptr, users[order], weights[order]
