"""The protocol against a slow oracle, and its edges."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from evaluation_toys import random_split, slow_ranks, split_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedpeft.errors import ConfigError, RunError
from fedpeft.evaluation import evaluate, evaluate_sampled, rank_users


@st.composite
def scored_splits(draw: st.DrawFn) -> tuple[np.ndarray, object]:
    n_items = draw(st.integers(2, 12))
    n_users = draw(st.integers(1, 6))
    orders = st.permutations(range(n_items))
    sequences = [draw(orders)[: draw(st.integers(2, n_items))] for _ in range(n_users)]
    evaluated = draw(st.sets(st.integers(0, n_users - 1)))
    split = split_of(
        n_items,
        sequences,
        n_negatives=draw(st.integers(0, 6)),
        eval_users=sorted(evaluated),
        seed=draw(st.integers(0, 9)),
    )
    values = st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 3.0, np.inf])  # few values: many ties
    row = st.lists(values, min_size=n_items, max_size=n_items)
    scores = np.array([draw(row) for _ in range(n_users)], dtype=np.float32)
    return scores, split


@settings(deadline=None, max_examples=150)
@given(case=scored_splits(), part=st.sampled_from(["validation", "test"]), chunk=st.integers(1, 7))
def test_ranks_equal_the_slow_oracle(case, part, chunk) -> None:  # type: ignore[no-untyped-def]
    scores, split = case
    ranks = rank_users(
        lambda users: torch.from_numpy(scores)[users], split, part, chunk_users=chunk
    )
    assert (ranks.sampled.tolist(), ranks.full.tolist()) == slow_ranks(scores, split, part)


@settings(deadline=None, max_examples=150)
@given(case=scored_splits(), part=st.sampled_from(["validation", "test"]))
def test_lists_alone_are_ranked_as_with_the_catalogue(case, part) -> None:  # type: ignore[no-untyped-def]
    scores, split = case
    table = torch.from_numpy(scores)
    if not len(split.eval_users):
        with pytest.raises(RunError):
            evaluate_sampled(lambda users, items: table[users].gather(1, items), split, part)
        return
    report = evaluate_sampled(lambda users, items: table[users].gather(1, items), split, part)
    both = evaluate(lambda users: table[users], split, part)
    alone = {"full": {}, "standard_error": {"sampled": both.standard_error["sampled"]}}
    assert report == dataclasses.replace(both, **alone)


@pytest.mark.parametrize("bad", ["shape", "nan", "part"])
def test_wrong_lists_are_refused(bad: str) -> None:
    split = random_split(12, 130, 8)

    def scorer(users: Tensor, items: Tensor) -> Tensor:
        scores = items.float()
        if bad == "nan":
            scores[3, 7] = torch.nan
        return scores[:, :-1] if bad == "shape" else scores

    said = {"shape": "shape", "nan": "user 3 hold NaN", "part": "must be 'validation' or 'test'"}
    with pytest.raises((RunError, ConfigError), match=said[bad]):
        evaluate_sampled(scorer, split, "train" if bad == "part" else "test")  # type: ignore[arg-type]


def test_many_users_are_ranked_in_chunks() -> None:
    split = random_split(2500, 130, 4)
    sizes: list[int] = []

    def scorer(users: Tensor, items: Tensor) -> Tensor:
        sizes.append(len(users))
        return items.float()

    report = evaluate_sampled(scorer, split)
    assert sizes == [1024, 1024, 452]
    everything = torch.arange(130.0)
    assert (
        report.sampled == evaluate(lambda users: everything.expand(len(users), -1), split).sampled
    )


def test_report_equals_the_ranks_and_is_plain_json() -> None:
    split = random_split(30, 130, 8)
    scores = torch.randn(30, 130, generator=torch.Generator().manual_seed(0))
    report = evaluate(lambda users: scores[users], split, "test")
    sampled, full = slow_ranks(scores.numpy(), split, "test")
    assert report.n_users == 30
    assert report.short_users == 0
    assert report.sampled["hr@10"] == pytest.approx(np.mean(np.array(sampled) <= 10))
    assert report.full["mrr"] == pytest.approx(np.mean(1 / np.array(full)))
    assert set(report.standard_error["full"]) == {"hr@10", "ndcg@10"}
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False)) == report.to_dict()
    assert report.split == split.fingerprint


def test_a_constant_scorer_ranks_every_target_last() -> None:
    split = random_split(20, 150, 10)
    constant = torch.zeros(1, 150)
    ranks = rank_users(lambda users: constant.expand(len(users), -1), split, "test")
    assert set(ranks.sampled.tolist()) == {101}
    assert set(ranks.full.tolist()) == {150 - 8 - 1}  # without train items and the validation item


def test_the_validation_item_competes_on_neither_part() -> None:
    split = split_of(4, [[0, 1, 2]], n_negatives=1)  # train 0, validation 1, test 2, unseen 3
    best_is_validation = torch.tensor([[8.0, 9.0, 5.0, 1.0]])
    assert rank_users(lambda users: best_is_validation, split, "test").full.tolist() == [1]
    best_is_test = torch.tensor([[8.0, 5.0, 9.0, 1.0]])
    assert rank_users(lambda users: best_is_test, split, "validation").full.tolist() == [2]


def test_users_without_negatives_are_counted_and_flatter_sampled_only() -> None:
    # User 0 has taken the whole catalogue but one item, user 1 all of it: no negatives at all.
    split = split_of(4, [[0, 1, 2], [0, 1, 2, 3]], n_negatives=5)
    worst = -torch.nn.functional.one_hot(torch.tensor([2, 3]), 4).float()
    report = evaluate(lambda users: worst[users], split, "test")
    assert report.short_users == 2
    assert rank_users(lambda users: worst[users], split, "test").sampled.tolist() == [2, 1]
    assert report.sampled["hr@1"] == 0.5


def test_scores_are_left_alone_and_gradients_are_not_recorded() -> None:
    split = random_split(10, 120, 6)
    table = torch.randn(10, 120, generator=torch.Generator().manual_seed(0)).requires_grad_()
    before = table.detach().clone()
    seen: list[bool] = []

    def scorer(users: Tensor) -> Tensor:
        scores = table[users] * 1.0
        seen.append(scores.requires_grad)
        return scores

    evaluate(scorer, split)
    assert seen == [False]
    assert torch.equal(table.detach(), before)


def test_chunks_keep_memory_bounded_and_do_not_change_the_ranks() -> None:
    n_items = 300_000
    sequences = [[user, user + 10, user + 20] for user in range(10)]
    split = split_of(n_items, sequences, n_negatives=3)
    sizes: list[int] = []

    def scorer(users: Tensor) -> Tensor:
        sizes.append(len(users) * n_items * 4)
        return torch.arange(n_items, dtype=torch.float32).expand(len(users), -1)

    ranks = rank_users(scorer, split, "test")
    assert max(sizes) <= 8 * 2**20
    again = rank_users(scorer, split, "test", chunk_users=10)
    assert ranks.full.tolist() == again.full.tolist() == [n_items - 20 - u for u in range(10)]


def test_a_row_larger_than_the_budget_is_scored_alone() -> None:
    n_items = 3_000_000
    split = split_of(n_items, [[0, 1, 2], [3, 4, 5]], n_negatives=0)
    sizes: list[int] = []
    scores = torch.arange(n_items, dtype=torch.float32)

    def scorer(users: Tensor) -> Tensor:
        sizes.append(len(users))
        return scores.expand(len(users), -1)

    assert rank_users(scorer, split, "test").full.tolist() == [n_items - 2, n_items - 5]
    assert sizes == [1, 1]


def test_bad_scores_are_refused() -> None:
    split = random_split(5, 120, 6)
    scores = torch.zeros(5, 120)
    scores[3, 7] = torch.nan
    with pytest.raises(RunError, match="user 3 hold NaN"):
        evaluate(lambda users: scores[users], split, chunk_users=2)
    with pytest.raises(RunError, match=r"shape \(5, 119\).*\(5, 120\)"):
        evaluate(lambda users: scores[users, 1:], split)
    with pytest.raises(RunError, match="int64"):
        evaluate(lambda users: torch.zeros(5, 120, dtype=torch.int64), split)


def test_bad_questions_are_refused() -> None:
    split = random_split(5, 120, 6)
    with pytest.raises(ConfigError, match="'validation' or 'test'"):
        evaluate(lambda users: torch.zeros(5, 120), split, "train")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 1"):
        evaluate(lambda users: torch.zeros(5, 120), split, chunk_users=0)
    nobody = dataclasses.replace(
        split, eval_users=split.eval_users[:0], negatives=split.negatives[:0]
    )
    with pytest.raises(RunError, match="no user"):
        evaluate(lambda users: torch.zeros(len(users), 120), nobody)
