"""Bayesian personalised ranking (Rendle et al. 2009)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fedpeft.losses.base import Loss, LossConfig, losses


class BPRConfig(LossConfig):
    """Settings of BPR."""

    negatives: int = Field(1, ge=1, le=64)
    """Negatives drawn per positive."""


class BPR(Loss):
    """Weighted mean over pairs of -log sigmoid(score of the positive - score of its negative)."""

    weighting = "samples"

    def __init__(self, config: BPRConfig) -> None:
        self.config = config

    @property
    def negatives(self) -> int:
        return self.config.negatives

    def __call__(self, positive: Tensor, negative: Tensor, weight: Tensor) -> Tensor:
        pairs = F.softplus(negative - positive.unsqueeze(-1)).mean(-1)
        return (pairs * weight).sum() / weight.sum().clamp(min=1e-8)


losses.register("bpr", config=BPRConfig, build=BPR)
