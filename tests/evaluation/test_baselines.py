"""Popularity and the centralised matrix factorisation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_toys import block_split, histories_of, random_split, split_of
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.data.config import DataConfig, SplitConfig
from fedpeft.data.dataset import Histories
from fedpeft.errors import RunError
from fedpeft.evaluation import (
    ALSConfig,
    baselines,
    choose_als,
    evaluate,
    matrix_factorisation,
    popularity,
    rank_users,
)
from fedpeft.evaluation import als as als_module
from fedpeft.evaluation.als import fit_als


def dense(train: Histories, n_items: int) -> np.ndarray:
    seen = np.zeros((train.n_users, n_items))
    for user in range(train.n_users):
        seen[user, train.of(user)] = 1.0
    return seen


def slow_items(seen: np.ndarray, users: np.ndarray, config: ALSConfig) -> np.ndarray:
    """Solve item by item in float64, straight from the loss."""
    solved = []
    for column in seen.T:
        mine = users[column > 0]
        system = config.unobserved_weight * users.T @ users + mine.T @ mine
        system += config.regularisation * np.eye(config.dim)
        solved.append(np.linalg.solve(system, mine.sum(0)))
    return np.array(solved)


def loss(seen: np.ndarray, users: np.ndarray, items: np.ndarray, config: ALSConfig) -> float:
    scores = users @ items.T
    fit = (seen * (scores - 1) ** 2).sum() + config.unobserved_weight * (scores**2).sum()
    return float(fit + config.regularisation * ((users**2).sum() + (items**2).sum()))


@st.composite
def trains(draw: st.DrawFn) -> tuple[Histories, int]:
    n_items = draw(st.integers(1, 9))
    row = st.sets(st.integers(0, n_items - 1)).map(sorted)  # empty histories too
    return histories_of(draw(st.lists(row, max_size=8))), n_items


@settings(deadline=None, max_examples=60)
@given(case=trains(), dim=st.integers(1, 12), cells=st.sampled_from([1, 7, 2**15]))
def test_a_sweep_equals_solving_row_by_row(  # type: ignore[no-untyped-def]
    case, dim: int, cells: int
) -> None:
    train, n_items = case
    config = ALSConfig(dim=dim, sweeps=2, regularisation=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(als_module, "_BATCH_CELLS", cells)
        users, items = fit_als(train, n_items, config)
    expected = slow_items(dense(train, n_items), users.double().numpy(), config)
    np.testing.assert_allclose(items.numpy(), expected.reshape(items.shape), atol=1e-4)


def test_every_sweep_lowers_the_loss() -> None:
    split = random_split(40, 50, 10)
    seen = dense(split.train, 50)
    losses = []
    for sweeps in (1, 2, 4, 8):
        config = ALSConfig(dim=6, sweeps=sweeps, regularisation=0.3)
        users, items = fit_als(split.train, 50, config)
        losses.append(loss(seen, users.double().numpy(), items.double().numpy(), config))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * seen.sum()  # and it explains something


def test_the_seed_decides_the_start_and_nothing_else_does() -> None:
    split = random_split(20, 30, 8)
    config = ALSConfig(dim=4, sweeps=1)
    first, again = (fit_als(split.train, 30, config, seed=1)[0] for _ in range(2))
    other = fit_als(split.train, 30, config, seed=2)[0]
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_a_singular_system_is_reported() -> None:
    train = histories_of([[0]])
    with pytest.raises(RunError, match="regularisation"):
        fit_als(train, 1, ALSConfig(unobserved_weight=0.0, regularisation=1e-30))


def test_popularity_is_the_train_count() -> None:
    split = split_of(5, [[0, 1, 4, 3], [0, 3, 4], [0, 2, 1]], n_negatives=1)
    scores = popularity(split)(torch.tensor([2, 0]))
    assert scores.tolist() == [[3.0, 1.0, 0.0, 0.0, 0.0]] * 2
    assert scores.dtype == torch.float32


def test_matrix_factorisation_finds_the_blocks_that_popularity_cannot() -> None:
    split = block_split()
    scorer = matrix_factorisation(split, ALSConfig(dim=4, regularisation=0.5))
    ranks = rank_users(scorer, split, "test").full
    left_in_own_block = 40 - 22 - 1
    assert ranks.max() <= left_in_own_block
    assert rank_users(popularity(split), split, "test").full.max() > left_in_own_block


def test_tuning_reads_validation_only_and_does_not_lose_to_the_default_there() -> None:
    split = block_split()
    chosen = choose_als(split)
    poisoned = dataclasses.replace(split, test=split.validation)
    assert choose_als(poisoned) == chosen
    tuned = evaluate(matrix_factorisation(split, tune=True), split)
    default = evaluate(matrix_factorisation(split), split)
    assert tuned.sampled["ndcg@10"] >= default.sampled["ndcg@10"]


def test_baselines_hold_both_models_and_parts() -> None:
    split = block_split()
    found = baselines(split, seed=3)
    assert list(found) == ["popularity", "centralised_mf"]
    for baseline in found.values():
        assert baseline["validation"]["part"] == "validation"
        assert baseline["test"]["part"] == "test"
    settings_found = ALSConfig(**found["centralised_mf"]["settings"])
    scorer = matrix_factorisation(split, settings_found, seed=3)
    assert found["centralised_mf"]["test"] == evaluate(scorer, split, "test").to_dict()
    json.dumps(found, allow_nan=False)


def test_the_matrix_factorisation_can_be_left_out() -> None:
    assert list(baselines(block_split(), centralised_mf=False)) == ["popularity"]


@pytest.mark.realdata
def test_matrix_factorisation_beats_popularity_on_movielens(real_data: Path) -> None:
    from fedpeft.data.load import load
    from fedpeft.data.splits import split as make_split

    dataset = load(DataConfig(source=str(real_data / "ml-100k")))
    split = make_split(dataset, SplitConfig())
    factorised = evaluate(matrix_factorisation(split), split, "test")
    popular = evaluate(popularity(split), split, "test")
    assert factorised.sampled["hr@10"] > popular.sampled["hr@10"] + 0.15  # .65 against .39
    assert factorised.full["ndcg@10"] > 1.3 * popular.full["ndcg@10"]  # .072 against .043
