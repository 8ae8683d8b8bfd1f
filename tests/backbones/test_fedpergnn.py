"""FedPerGNN: the contract, and its graph layer written out by hand."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.adapters import ItemContext, adapters, build
from fedpeft.backbones import HistoryBackbone, backbones
from fedpeft.config import parse
from fedpeft.errors import ConfigError
from fedpeft.testing import BackboneContract
from fedpeft.testing.toy import random_base

OFTEN: dict[str, Any] = {"expansion": {"every": 2, "neighbours": 2}}


class TestFedPerGNN(BackboneContract):
    kind = "fedpergnn"
    config = OFTEN
    ndcg_floor = 0.9


class TestFedPerGNNCrossEntropy(BackboneContract):
    kind = "fedpergnn"
    config = OFTEN
    loss = ("bce", {})
    ndcg_floor = 0.65


class TestFedPerGNNLeastSquares(BackboneContract):
    kind = "fedpergnn"
    config = OFTEN
    loss = ("ials", {"unobserved_weight": 0.2})
    training: ClassVar = {"local": "solve", "local_steps": 0, "local_decay": 0.1}
    ndcg_floor = 0.85


def client(items: float = 0.7, neighbours: float = 1.3) -> HistoryBackbone:
    """Return a client over 11 items of 4 dimensions that has a vector and a neighbour."""
    part = backbones.get("fedpergnn")
    config = parse(part.config, {"items": items, "neighbours": neighbours}, "backbone")
    item = build("full", adapters.get("full").config(), ItemContext(random_base(11, 4), seed=0))
    model = part.build(config, item)
    assert isinstance(model, HistoryBackbone)
    rng = torch.Generator().manual_seed(3)
    model.get_parameter("user").data.copy_(torch.randn(4, generator=rng))
    model.get_buffer("neighbours").copy_(torch.randn(4, generator=rng))
    return model


def by_hand(model: HistoryBackbone, history: list[int], weight: list[float], item: int) -> float:
    """Return one score in plain float64: u + a mean of the other items' vectors + b n."""
    table = model.item.merge().double().numpy()
    user = model.get_parameter("user").detach().double().numpy()
    others = [(w, table[i]) for w, i in zip(weight, history, strict=True) if i != item]
    total = sum(w for w, _ in others)
    mean = sum(w * v for w, v in others) / total if total else np.zeros(4)
    near = model.get_buffer("neighbours").double().numpy()
    return float((user + 0.7 * mean + 1.3 * near) @ table[item])


@given(
    history=st.lists(st.integers(0, 10), unique=True, max_size=8),
    weights=st.lists(st.floats(0.1, 1.0), min_size=8, max_size=8),
)
@settings(max_examples=30, deadline=None)
def test_an_item_is_scored_in_the_context_of_the_others(
    history: list[int], weights: list[float]
) -> None:
    model = client()
    weight = weights[: len(history)]
    model.remember(torch.tensor(history, dtype=torch.int64), torch.tensor(weight))
    expected = [by_hand(model, history, weight, item) for item in range(11)]
    scores = model(torch.arange(11)).detach().numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-5)
    new = [item for item in range(11) if item not in history]
    plain = model.score(model.item(torch.tensor(new, dtype=torch.int64)))
    np.testing.assert_allclose(plain.detach().numpy(), scores[new], rtol=1e-5, atol=1e-6)


def test_padding_changes_nothing() -> None:
    model = client()
    vectors = model.item(torch.tensor([3, 8, 0, 0]))
    short = model.context(vectors[:2], torch.tensor([1.0, 0.5]))
    padded = model.context(vectors, torch.tensor([1.0, 0.5, 0.0, 0.0]))
    torch.testing.assert_close(padded.whole, short.whole)
    torch.testing.assert_close(padded.others[:2], short.others)
    assert padded.others.isfinite().all()


def test_an_item_does_not_vote_for_itself() -> None:
    """With its own vector in the context, a longer vector would always score higher."""
    model = client(items=5.0, neighbours=0.0)
    model.get_parameter("user").data.zero_()
    model.remember(torch.tensor([4]), torch.ones(1))
    assert model(torch.tensor(4)).item() == 0
    model.remember(torch.tensor([4, 6]), torch.ones(2))
    vectors = model.item(torch.tensor([4, 6]))
    expected = 5 * (vectors[0] @ vectors[1])
    torch.testing.assert_close(model(torch.tensor([4, 6])), expected.expand(2))


def test_history_gets_gradients() -> None:
    model = client()
    model.remember(torch.tensor([2, 5]), torch.ones(2))
    model(torch.tensor(9)).backward()
    grad = model.item.get_parameter("weight").grad
    assert grad is not None
    assert set(grad.any(1).nonzero().flatten().tolist()) == {2, 5, 9}


def test_history_is_in_no_state_dict() -> None:
    model = client()
    model.remember(torch.tensor([2, 5]), torch.ones(2))
    assert not any("history" in name for name in model.state_dict())
    assert not set(model.kept) & {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"items": -1.0}, "backbone.items"),
        ({"expansion": {"neighbours": 0}}, "backbone.expansion.neighbours"),
        ({"expansion": {"clip": 0.0}}, "backbone.expansion.clip"),
        ({"expansion": {"key": "secret"}}, "backbone.expansion.key"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        parse(backbones.get("fedpergnn").config, settings, "backbone")
