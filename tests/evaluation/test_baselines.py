"""Popularity and the centralised models."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_toys import (
    block_split,
    dense,
    histories_of,
    random_split,
    split_of,
    trains,
    weighted,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.data.config import DataConfig, SplitConfig
from fedpeft.data.dataset import Split
from fedpeft.data.load import load
from fedpeft.data.recency import RecencyConfig
from fedpeft.data.splits import split as make_split
from fedpeft.errors import RunError
from fedpeft.evaluation import (
    ALSConfig,
    EASEConfig,
    Holdout,
    Scorer,
    baseline_names,
    baselines,
    choose_als,
    choose_ease,
    ease_scorers,
    evaluate,
    ials_scorers,
    left_out_baselines,
    popularity,
    rank_users,
)
from fedpeft.evaluation import als as als_module
from fedpeft.evaluation.als import fit_als
from fedpeft.evaluation.ease import gram_of

module = import_module("fedpeft.evaluation.baselines")  # its function has its name


def slow_items(seen: np.ndarray, users: np.ndarray, config: ALSConfig) -> np.ndarray:
    """Solve item by item in float64, straight from the loss; `seen` holds weights."""
    a0, solved = config.unobserved_weight, []
    for column in seen.T:
        if not column.any():
            solved.append(np.zeros(config.dim))
            continue
        system = a0 * users.T @ users + (users.T * column) @ users
        decay = config.regularisation * (column.sum() + a0 * len(users))
        solved.append(np.linalg.solve(system + decay * np.eye(config.dim), users.T @ column))
    return np.array(solved)


def loss(seen: np.ndarray, users: np.ndarray, items: np.ndarray, config: ALSConfig) -> float:
    scores = users @ items.T
    a0, (n_users, n_items) = config.unobserved_weight, seen.shape
    fit = (seen * (scores - 1) ** 2).sum() + a0 * (scores**2).sum()
    by_user = (seen.sum(1) + a0 * n_items) @ (users**2).sum(1)
    by_item = (seen.sum(0) + a0 * n_users) @ (items**2).sum(1)
    return float(fit + config.regularisation * (by_user + by_item))


@settings(deadline=None, max_examples=60)
@given(
    case=trains(),
    dim=st.integers(1, 12),
    cells=st.sampled_from([1, 7, 2**15]),
    by_event=st.booleans(),
)
def test_a_sweep_equals_solving_row_by_row(  # type: ignore[no-untyped-def]
    case, dim: int, cells: int, by_event: bool
) -> None:
    train, n_items = case
    train = weighted(train) if by_event else train
    config = ALSConfig(dim=dim, sweeps=2, unobserved_weight=0.1, regularisation=0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(als_module, "_BATCH_CELLS", cells)
        users, items = fit_als(train, n_items, config)
    expected = slow_items(dense(train, n_items), users.double().numpy(), config)
    np.testing.assert_allclose(items.numpy(), expected.reshape(items.shape), atol=1e-4)


def test_every_sweep_lowers_the_loss() -> None:
    train = weighted(random_split(40, 50, 10).train)
    seen = dense(train, 50)
    losses = []
    for sweeps in range(1, 9):
        config = ALSConfig(dim=6, sweeps=sweeps, unobserved_weight=0.1, regularisation=0.02)
        users, items = fit_als(train, 50, config)
        losses.append(loss(seen, users.double().numpy(), items.double().numpy(), config))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * seen.sum()  # and it explains something


def test_the_seed_decides_the_start_and_nothing_else_does() -> None:
    split = random_split(20, 30, 8)
    config = ALSConfig.by_rule(split.statistics, dim=4, sweeps=1)
    first, again = (fit_als(split.train, 30, config, seed=1)[0] for _ in range(2))
    other = fit_als(split.train, 30, config, seed=2)[0]
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_a_singular_system_is_reported() -> None:
    train = histories_of([[0]] * 40)  # 32 dimensions, and all users alike
    with pytest.raises(RunError, match="regularisation"):
        fit_als(train, 1, ALSConfig(unobserved_weight=0.0, regularisation=1e-30))


def test_popularity_is_the_train_count() -> None:
    split = split_of(5, [[0, 1, 4, 3], [0, 3, 4], [0, 2, 1]], n_negatives=1)
    scores = popularity(split)(torch.tensor([2, 0]))
    assert scores.tolist() == [[3.0, 1.0, 0.0, 0.0, 0.0]] * 2
    assert scores.dtype == torch.float32


def test_the_centralised_models_find_the_blocks_that_popularity_cannot() -> None:
    split = block_split()
    gram = gram_of(split.train, split.n_items)
    scorers = {
        "ials": ials_scorers(split, ALSConfig.by_rule(split.statistics, dim=4)),
        "ease": ease_scorers(split, EASEConfig.by_rule(gram), gram),
    }
    left_in_own_block = 40 - 22 - 1
    for name, scorer in scorers.items():
        assert rank_users(scorer("test"), split, "test").full.max() <= left_in_own_block, name
    assert rank_users(popularity(split), split, "test").full.max() > left_in_own_block


def test_choosing_reads_validation_only_and_does_not_lose_to_the_rules_there() -> None:
    split = block_split()
    poisoned = replace(split, test=split.validation)
    gram = gram_of(split.train, split.n_items)
    als, ridge = ALSConfig.by_rule(split.statistics), EASEConfig.by_rule(gram)
    chosen = choose_als(split, als)
    assert choose_als(poisoned, als) == chosen
    assert full(ials_scorers(split, chosen), split) >= full(ials_scorers(split, als), split)
    best = choose_ease(split, ridge, gram)
    assert choose_ease(poisoned, ridge, gram) == best
    assert full(ease_scorers(split, best, gram), split) >= full(
        ease_scorers(split, ridge, gram), split
    )


@pytest.mark.parametrize(("best", "found"), [(0.8, 0.8), (3.0, 3.2), (0.15, 0.2)])
def test_a_setting_is_doubled_or_halved_as_long_as_that_helps(best: float, found: float) -> None:
    tried: list[float] = []

    def quality(config: EASEConfig) -> float:
        tried.append(config.regularisation)
        if config.regularisation < 0.2:
            raise RunError("singular")
        return -abs(math.log(config.regularisation / best))

    start = EASEConfig(regularisation=0.8)
    reached, chosen = module._climb(quality(start), start, "regularisation", quality)
    assert chosen.regularisation == pytest.approx(found)
    assert reached == quality(chosen)
    assert max(tried) <= 2 * max(0.8, found)


def test_no_width_is_tried_that_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    split, widths = block_split(), set[int]()
    monkeypatch.setattr(module, "ials_scorers", lambda split, config, seed: widths.add(config.dim))
    monkeypatch.setattr(module, "_quality", lambda *_: float(len(widths)))
    start = ALSConfig.by_rule(split.statistics)
    assert choose_als(split, start).dim == 256
    assert widths == {32, 64, 128, 256}
    widths.clear()
    most = start.model_copy(update={"dim": 64}).work(split.statistics)
    monkeypatch.setattr(module, "_MOST_WORK", most)
    assert choose_als(split, start).dim == 64
    assert widths == {32, 64}


def test_baselines_hold_all_models_and_parts() -> None:
    split = block_split()
    recency = RecencyConfig(half_life=5.0, floor=0.1)
    found = baselines(split, seed=3, recency=recency)
    assert list(found) == baseline_names(split) == ["popularity", "ials", "ease"]
    for baseline in found.values():
        assert baseline["validation"]["part"] == "validation"
        assert baseline["test"]["part"] == "test"
    als = ALSConfig(**found["ials"]["settings"])
    ridge = EASEConfig(**found["ease"]["settings"])
    assert als.recency == ridge.recency == recency
    fitted = {"ials": ials_scorers(split, als, seed=3), "ease": ease_scorers(split, ridge)}
    for name, scorer in fitted.items():
        assert found[name]["test"] == evaluate(scorer("test"), split, "test").to_dict()
    json.dumps(found, allow_nan=False)


def test_the_centralised_models_can_be_left_out() -> None:
    split = block_split()
    assert list(baselines(split, centralised=False)) == ["popularity"]
    with pytest.raises(TypeError, match="'centralised_mf' is called 'centralised' now"):
        baselines(split, centralised_mf=False)  # type: ignore[call-arg]


def test_ease_is_left_out_where_the_catalogue_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    split = block_split()
    assert left_out_baselines(split) is None
    monkeypatch.setattr(module, "MOST_ITEMS", split.n_items - 1)
    assert list(baselines(split, tune=False)) == baseline_names(split) == ["popularity", "ials"]
    (said,) = left_out_baselines(split) or []
    assert said.startswith("EASE is left out")
    assert "80 items are more than the 79" in said


def test_one_user_and_items_that_nobody_has() -> None:
    found = baselines(split_of(4, [[0, 1, 2]], n_negatives=1))
    assert list(found) == ["popularity", "ials", "ease"]
    json.dumps(found, allow_nan=False)


@pytest.mark.realdata
def test_the_centralised_models_beat_popularity_on_movielens(real_data: Path) -> None:
    dataset = load(DataConfig(source=str(real_data / "ml-100k")))
    found = baselines(make_split(dataset, SplitConfig()), tune=False)
    popular = found["popularity"]["test"]
    for name in ("ials", "ease"):
        model = found[name]["test"]
        assert model["sampled"]["hr@10"] > popular["sampled"]["hr@10"] + 0.15, name
        assert model["full"]["ndcg@10"] > 1.3 * popular["full"]["ndcg@10"], name


def full(scorers: Callable[[Holdout], Scorer], split: Split) -> float:
    return evaluate(scorers("validation"), split).full["ndcg@10"]
