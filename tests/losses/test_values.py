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
    assert value("ials", unobserved_weight=0.2) == pytest.approx((0 + 1) / 2)
    assert (
        losses.get("ials").build(losses.get("ials").config(unobserved_weight=0.3)).unobserved_weight
        == 0.3
    )


def test_softmax_sets_every_positive_against_all_negatives() -> None:
    mean = sum(math.exp(score) for score in (0, 3, 2, 1)) / 4
    lost = [-math.log(math.exp(s) / (math.exp(s) + 7 * mean)) for s in (1, 2)]
    assert value("softmax", negatives=2, rivals=7.0) == pytest.approx(sum(lost) / 2)


def test_softmax_over_the_whole_catalogue_is_cross_entropy() -> None:
    positive, negative = torch.tensor([0.3]), torch.tensor([[0.1, -0.4, 0.9]])
    part = losses.get("softmax")
    loss = part.build(part.config(negatives=3, rivals=3.0))(positive, negative, torch.ones(1))
    scores = torch.cat([positive, negative[0]])
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(scores, torch.tensor(0)))
