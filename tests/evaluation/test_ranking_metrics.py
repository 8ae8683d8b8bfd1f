"""Counting ranks and summarising them."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
import torch
from evaluation_toys import random_split

from fedpeft.errors import RunError
from fedpeft.evaluation.metrics import CUTOFFS, standard_errors, summarise
from fedpeft.evaluation.protocol import evaluate
from fedpeft.evaluation.ranking import first_nan_row, rank_in_catalogue, rank_in_list


def test_known_metrics() -> None:
    values = summarise(np.array([1, 2, 10, 11]))
    assert values["hr@1"] == 0.25
    assert values["hr@5"] == 0.5
    assert values["hr@10"] == 0.75
    assert values["hr@20"] == values["hr@50"] == 1.0
    assert values["ndcg@10"] == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(11)) / 4)
    assert values["ndcg@1"] == 0.25
    assert values["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 10 + 1 / 11) / 4)
    assert values["median_rank"] == 6.0


def test_metrics_of_nobody_are_refused() -> None:
    with pytest.raises(RunError, match="no user"):
        summarise(np.array([], dtype=np.int64))


def test_standard_error_is_that_of_a_mean_and_needs_two_users() -> None:
    assert standard_errors(np.array([3])) == {}
    found = standard_errors(np.array([1, 1, 100, 100]))
    expected = math.sqrt((4 * 0.25 / 3) / 4)  # sample variance of 0/1 values, over n
    assert found == pytest.approx({"hr@10": expected, "ndcg@10": expected})


@pytest.mark.parametrize("kind", ["sampled", "full"])
def test_metrics_equal_ir_measures(kind: str) -> None:
    split = random_split(n_users=40, n_items=160, length=12)
    scores = torch.randn(40, 160, generator=torch.Generator().manual_seed(1))
    qrels, run = [], []
    for user in range(40):
        target = int(split.test[user])
        known = {*split.train.of(user).tolist(), int(split.validation[user])}
        others = split.negatives[user].tolist() if kind == "sampled" else range(160)
        candidates = ({*others} - known) | {target}
        qrels.append(ir_measures.Qrel(str(user), str(target), 1))
        run += [
            ir_measures.ScoredDoc(str(user), str(i), float(scores[user, i])) for i in candidates
        ]
    names = {f"hr@{k}": ir_measures.Success @ k for k in CUTOFFS}
    names |= {f"ndcg@{k}": ir_measures.nDCG @ k for k in CUTOFFS}
    names["mrr"] = ir_measures.RR
    oracle = ir_measures.calc_aggregate(names.values(), qrels, run)
    report = evaluate(lambda users: scores[users], split, "test").to_dict()[kind]
    for name, measure in names.items():
        assert report[name] == pytest.approx(oracle[measure], abs=1e-6), name


def test_ties_count_against_the_target() -> None:
    scores = torch.zeros(1, 5)
    target = torch.tensor([2])
    nothing = torch.tensor([], dtype=torch.int64)
    assert rank_in_list(scores, target, torch.tensor([[0, 1, 4]])).tolist() == [4]
    assert rank_in_catalogue(scores, target, nothing, nothing).tolist() == [5]


def test_minus_infinity_is_an_ordinary_score() -> None:
    scores = torch.tensor([[-torch.inf, -torch.inf, 0.0, -torch.inf]])
    rows, excluded = torch.tensor([0]), torch.tensor([3])
    assert rank_in_catalogue(scores, torch.tensor([0]), rows, excluded).tolist() == [3]


def test_a_catalogue_of_one_item_and_a_list_of_padding_give_rank_one() -> None:
    nothing = torch.tensor([], dtype=torch.int64)
    scores = torch.tensor([[0.5], [-torch.inf]])
    targets = torch.tensor([0, 0])
    assert rank_in_catalogue(scores, targets, nothing, nothing).tolist() == [1, 1]
    assert rank_in_list(scores, targets, torch.full((2, 3), -1)).tolist() == [1, 1]


def test_padding_does_not_count_as_item_zero() -> None:
    scores = torch.tensor([[9.0, 1.0, 0.0]])  # item 0 would beat the target
    assert rank_in_list(scores, torch.tensor([1]), torch.tensor([[2, -1, -1]])).tolist() == [1]


def test_nan_is_told_from_infinities_that_cancel() -> None:
    scores = torch.zeros(3, 2)
    scores[1] = torch.tensor([torch.inf, -torch.inf])
    assert first_nan_row(scores) is None
    scores[2, 0] = torch.nan
    assert first_nan_row(scores) == 2
