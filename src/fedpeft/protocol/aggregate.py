"""Sums of uploads: what a server, a node or a rank of a simulation adds up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Self

import torch
from torch import Tensor

from fedpeft.tensors import Tensors


@dataclass(frozen=True, eq=False)
class Partial:
    """The sum of some clients' weighted changes; of all of a round, or of a part of them.

    Attributes
    ----------
    sum
        name -> float32, the shape of the payload.
    weight
        Sum of the clients' weights.
    clients
        Uploads in the sum.
    rejected
        Uploads that were left out because they were not finite.
    loss_sum
        Sum of weight times loss.
    """

    sum: Tensors
    weight: float
    clients: int
    rejected: int
    loss_sum: float

    @classmethod
    def empty(cls, like: Mapping[str, Tensor]) -> Self:
        """Return the sum of nobody, with the names and shapes of a payload."""
        return cls({name: torch.zeros_like(t) for name, t in like.items()}, 0.0, 0, 0, 0.0)

    @property
    def loss(self) -> float:
        """Weighted mean of the clients' losses; 0 where nobody weighs anything."""
        return self.loss_sum / (self.weight or 1.0)

    def __add__(self, other: Partial) -> Partial:
        return Partial(
            {name: tensor + other.sum[name] for name, tensor in self.sum.items()},
            self.weight + other.weight,
            self.clients + other.clients,
            self.rejected + other.rejected,
            self.loss_sum + other.loss_sum,
        )


def combine(partials: Iterable[Partial]) -> Partial:
    """Return the sum of partial sums, added from left to right: the order decides the last bits.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = list(partials)
    if not found:
        raise ValueError("there is no partial sum to combine")
    return reduce(Partial.__add__, found)


def finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether every value of the tensors is finite."""
    # a sum reads its input once; it may also run over
    return all(
        math.isfinite(float(tensor.sum())) or bool(tensor.isfinite().all()) for tensor in tensors
    )
