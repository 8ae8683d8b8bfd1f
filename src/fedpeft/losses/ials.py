"""Least squares over all items (Hu, Koren, Volinsky 2008; federated: Ammad-ud-din et al. 2019)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from fedpeft.config import ConfigModel
from fedpeft.losses.base import Loss, losses


class IALSConfig(ConfigModel):
    """Settings of the least-squares loss."""

    alpha0: float = Field(0.2, gt=0)
    """Weight of the squared scores of all items, observed or not, against the observed ones."""


class IALS(Loss):
    """Half the weighted sum of (score - 1)^2 over train items, plus alpha0 / 2 of score^2 over all.

    No negatives are drawn; given the item vectors the best user vector is a k x k ridge solve.
    """

    least_squares = True
    weighting = "uniform"

    def __init__(self, config: IALSConfig) -> None:
        self.config = config
        self.catalogue_weight = config.alpha0

    def __call__(self, positive: Tensor, negative: Tensor, weight: Tensor) -> Tensor:
        return ((positive - 1).square() * weight).sum() / 2


losses.register("ials", config=IALSConfig, build=IALS)
