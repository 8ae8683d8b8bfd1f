"""EASE against ridge regressions that are solved item by item."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation_toys import EQUAL, dense, histories_of, random_split, trains, weighted
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.data.recency import RecencyConfig
from fedpeft.errors import RunError
from fedpeft.evaluation import ease as ease_module
from fedpeft.evaluation.ease import ease_scorer, gram_of, item_weights

FADING = RecencyConfig(half_life=2.0, floor=0.1)


def slow_weights(rows: np.ndarray, regularisation: float) -> np.ndarray:
    """Regress each item on all others, in float64."""
    n_items = rows.shape[1]
    found = np.zeros((n_items, n_items))
    for item in range(n_items):
        others = np.delete(np.arange(n_items), item)
        known = rows[:, others]
        system = known.T @ known + regularisation * np.eye(n_items - 1)
        found[others, item] = np.linalg.solve(system, known.T @ rows[:, item])
    return found


@settings(deadline=None, max_examples=60)
@given(
    case=trains(),
    regularisation=st.floats(0.1, 10),
    block=st.sampled_from([1, 2, 1024]),
    by_event=st.booleans(),
)
def test_weights_are_ridge_regressions_on_the_other_items(  # type: ignore[no-untyped-def]
    case, regularisation: float, block: int, by_event: bool
) -> None:
    train, n_items = case
    train = weighted(train) if by_event else train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ease_module, "_BLOCK", block)
        gram = gram_of(train, n_items)
    rows = dense(train, n_items)
    np.testing.assert_allclose(gram.numpy(), rows.T @ rows, rtol=1e-5, atol=1e-5)
    before = gram.clone()
    found = item_weights(gram, regularisation)
    assert torch.equal(gram, before)
    assert not found.diagonal().any()
    np.testing.assert_allclose(found.numpy(), slow_weights(rows, regularisation), atol=1e-4)


def test_single_precision_does() -> None:
    train = random_split(2_000, 300, 40).train
    gram = gram_of(train, 300)
    for regularisation in (1.0, 100.0):
        single, double = (item_weights(g, regularisation) for g in (gram, gram.double()))
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    case=trains(), recency=st.sampled_from([EQUAL, FADING]), by_event=st.booleans(), data=st.data()
)
def test_a_score_is_the_weighted_history_times_the_weights(  # type: ignore[no-untyped-def]
    case, recency: RecencyConfig, by_event: bool, data: st.DataObject
) -> None:
    train, n_items = case
    train = weighted(train) if by_event else train
    users = (
        data.draw(st.lists(st.integers(0, train.n_users - 1), max_size=5))
        if len(train.indptr) > 1
        else []
    )
    weights = item_weights(gram_of(train, n_items), 0.5)
    scores = ease_scorer(weights, train, recency)(torch.tensor(users, dtype=torch.int64))
    assert scores.dtype == torch.float32
    expected = dense(train, n_items, recency)[users] @ weights.double().numpy()
    np.testing.assert_allclose(scores.numpy(), expected.reshape(len(users), n_items), atol=1e-5)


def test_a_singular_system_is_reported() -> None:
    twins = gram_of(histories_of([[0, 1]]), 2)
    with pytest.raises(RunError, match=r"EASE is singular .* regularisation = 1e-30"):
        item_weights(twins, 1e-30)
