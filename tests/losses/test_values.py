"""The losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from fedpeft.losses import losses

POSITIVE = torch.tensor([1.0, 2.0, 50.0])
NEGATIVE = torch.tensor([[0.0, 3.0], [2.0, 1.0], [9.0, 9.0]])
MASK = torch.tensor([1.0, 1.0, 0.0])


def value(kind: str, **settings: float) -> float:
    part = losses.get(kind)
    negative = NEGATIVE if kind != "ials" else NEGATIVE[:, :0]
    return float(part.build(part.config(**settings))(POSITIVE, negative, MASK))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_bpr_is_the_mean_over_pairs() -> None:
    pairs = [softplus(0 - 1), softplus(3 - 1), softplus(2 - 2), softplus(1 - 2)]
    assert value("bpr", negatives=2) == pytest.approx(sum(pairs) / 4)


def test_bce_is_the_mean_over_labelled_samples() -> None:
    labelled = [softplus(-1), softplus(0), softplus(3), softplus(-2), softplus(2), softplus(1)]
    assert value("bce", negatives=2) == pytest.approx(sum(labelled) / 6)


def test_ials_is_half_the_squared_distance_to_one() -> None:
    assert value("ials", alpha0=0.2) == pytest.approx((0 + 1) / 2)
    assert losses.get("ials").build(losses.get("ials").config(alpha0=0.3)).catalogue_weight == 0.3
