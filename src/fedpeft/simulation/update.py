"""What a round produces, and the seam for everything that touches an update on its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fedpeft.tensors import Tensors
from fedpeft.transforms import UpdateTransform


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


def on_user(transforms: Sequence[UpdateTransform], change: Tensors, users: Tensor) -> Tensors:
    """Run the client half of all transforms, in order."""
    for transform in transforms:
        change = transform.on_user(change, users)
    return change


def on_mean(transforms: Sequence[UpdateTransform], change: Tensors, clients: int) -> Tensors:
    """Run the server half of all transforms, in reverse."""
    for transform in reversed(transforms):
        change = transform.on_mean(change, clients)
    return change
