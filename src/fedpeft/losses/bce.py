"""Binary cross-entropy over positives and drawn negatives (He et al. 2017, eq. 7)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fedpeft.losses.base import Loss, LossConfig, losses


class BCEConfig(LossConfig):
    """Settings of binary cross-entropy."""

    negatives: int = Field(4, ge=1, le=64)
    """Negatives drawn per positive."""


class BCE(Loss):
    """Weighted mean over positives (label 1) and negatives (label 0) of the logistic loss."""

    weighting = "samples"

    def __init__(self, config: BCEConfig) -> None:
        self.config = config

    @property
    def negatives(self) -> int:
        return self.config.negatives

    def __call__(self, positive: Tensor, negative: Tensor, weight: Tensor) -> Tensor:
        entries = F.softplus(-positive) + F.softplus(negative).sum(-1)
        count = weight.sum().clamp(min=1e-8) * (1 + negative.shape[-1])
        return (entries * weight).sum() / count


losses.register("bce", config=BCEConfig, build=BCE)
