"""Least squares over all items (Hu, Koren, Volinsky 2008; federated: Ammad-ud-din et al. 2019)."""

from __future__ import annotations

from typing import Self

from pydantic import Field
from torch import Tensor

from fedpeft.data.statistics import DataStatistics
from fedpeft.errors import ConfigError
from fedpeft.losses.base import Loss, LossConfig, losses


class IALSConfig(LossConfig):
    """Settings of the least-squares loss."""

    unobserved_weight: float | None = Field(None, gt=0)
    """Weight of the squared scores of all items, observed or not, against the observed ones; None:
    4 times the density of the data."""

    def resolved(self, statistics: DataStatistics) -> Self:
        if self.unobserved_weight is not None:
            return self
        return self.model_copy(update={"unobserved_weight": statistics.unobserved_weight})


class IALS(Loss):
    """Half the weighted sum of (score - 1)^2 over train items, plus a0 / 2 of score^2 over all
    items, where a0 is `unobserved_weight`.

    No negatives are drawn; given the item vectors the best user vector is a k x k ridge solve.
    """

    least_squares = True
    weighting = "uniform"

    def __init__(self, config: IALSConfig) -> None:
        self.config = config
        if config.unobserved_weight is None:
            raise ConfigError(
                "loss.unobserved_weight is not set; give a number, or resolve the settings with "
                "data"
            )
        self.unobserved_weight = config.unobserved_weight

    def __call__(self, positive: Tensor, negative: Tensor, weight: Tensor) -> Tensor:
        return ((positive - 1).square() * weight).sum() / 2


losses.register("ials", config=IALSConfig, build=IALS)
