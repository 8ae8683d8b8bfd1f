"""Sampled softmax: one positive against all negatives of the client (Bengio and Senecal 2008)."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fedpeft.losses.base import Loss, LossConfig, losses


class SoftmaxConfig(LossConfig):
    """Settings of the sampled softmax."""

    negatives: int = Field(1, ge=1, le=64)
    """Negatives drawn per positive; every positive competes with all of them."""
    rivals: float = Field(100.0, gt=0)
    """How many items the negatives stand for: a positive's probability is exp(score) against
    `rivals` times the mean exp(score) of the client's negatives.  The size of the catalogue makes
    it the estimate of the full softmax (Jean et al. 2015); fewer are gentler."""


class Softmax(Loss):
    """Weighted mean over positives of -log p, p = e^s / (e^s + rivals * mean over negatives e^s').

    Negatives are shared: a client with 100 train items compares each with 100 negatives at the
    price of one per positive.
    """

    weighting = "samples"

    def __init__(self, config: SoftmaxConfig) -> None:
        self.config = config

    @property
    def negatives(self) -> int:
        return self.config.negatives

    def __call__(self, positive: Tensor, negative: Tensor, weight: Tensor) -> Tensor:
        padding = (weight == 0).unsqueeze(-1).expand_as(negative)
        # finite, since a client may have no train item at all
        rivals = negative.masked_fill(padding, -_FAR).flatten()
        count = (weight > 0).sum().clamp(min=1) * negative.shape[-1]
        level = rivals.logsumexp(0) - count.log() + math.log(self.config.rivals)
        return (F.softplus(level - positive) * weight).sum() / weight.sum().clamp(min=1e-8)


_FAR = torch.finfo(torch.float32).max / 4
losses.register("softmax", config=SoftmaxConfig, build=Softmax)
