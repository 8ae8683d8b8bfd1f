"""What a round produces, and the seam for everything that touches an update on its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fedpeft.adapters import ItemEmbedding
from fedpeft.federation.scoring import Tensors


@dataclass(frozen=True, eq=False)
class Update:
    """The weighted mean of the cohort's payload changes.

    Attributes
    ----------
    change
        name -> float, the shape of the payload: payload after minus payload before.
    loss
        Weighted mean of the clients' losses at the start of their last payload step.
    """

    change: Tensors
    loss: float


class Transform(Protocol):
    """Something that happens to an update between the client and the average."""

    dense: bool
    """Whether the transform needs every row of item-indexed tensors, not only the touched ones."""

    def begin(self, round_number: int, item: ItemEmbedding) -> None:
        """Begin a round, in which an item embedding travels."""
        ...

    def on_user(self, change: Tensors, users: Tensor) -> Tensors:
        """Transform the stacked changes, name -> float (C, ...), of C clients."""
        ...

    def on_mean(self, change: Tensors, clients: int) -> Tensors:
        """Transform the mean change on the server; transforms run in reverse order here."""
        ...


def on_user(transforms: Sequence[Transform], change: Tensors, users: Tensor) -> Tensors:
    """Run the client half of all transforms, in order."""
    for transform in transforms:
        change = transform.on_user(change, users)
    return change


def on_mean(transforms: Sequence[Transform], change: Tensors, clients: int) -> Tensors:
    """Run the server half of all transforms, in reverse."""
    for transform in reversed(transforms):
        change = transform.on_mean(change, clients)
    return change
