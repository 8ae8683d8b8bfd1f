"""The leak oracle: at chance with correct negatives, near 1 with the leak put in on purpose.

"At chance" means: HR@10 within 4 standard errors of 10 / 101.  With 300 users a standard error is
.017, so a correct sampler fails by bad luck about once in 16,000 seeds; the seeds are fixed.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation_toys import random_split, split_of, with_items

from fedpeft.data.dataset import Histories, Split
from fedpeft.data.negatives import TrainNegatives
from fedpeft.errors import ConfigError, DataError
from fedpeft.evaluation import LeakOracle, evaluate, rank_users
from fedpeft.streams import ClientStream

N_USERS, N_ITEMS = 300, 400


@pytest.fixture(scope="module")
def split() -> Split:
    return random_split(N_USERS, N_ITEMS, length=22)


def drawn_simply(split: Split, excluded: Histories, rounds: int = 8) -> LeakOracle:
    """Draw negatives in the plainest way: uniformly from what is left of the catalogue."""
    rng = np.random.default_rng(5)
    oracle = LeakOracle(split.n_users, split.n_items)
    for _ in range(rounds):
        for user in range(split.n_users):
            allowed = np.setdiff1d(np.arange(split.n_items), excluded.of(user))
            items = rng.choice(allowed, size=400)
            oracle.observe(np.full(400, user), items)
    return oracle


def drawn_by_the_sampler(split: Split, excluded: Histories, rounds: int = 40) -> LeakOracle:
    """Draw negatives with the sampler that training uses."""
    sampler = TrainNegatives(excluded, split.n_items)
    oracle = LeakOracle(split.n_users, split.n_items)
    rng = np.random.default_rng(6)
    for number in range(rounds):
        cohort = np.sort(rng.choice(split.n_users, size=split.n_users // 2, replace=False))
        items = sampler.sample(cohort, 8, ClientStream(6, "round", number))
        users = np.repeat(cohort, excluded.lengths()[cohort])
        oracle.observe(np.broadcast_to(users[:, None], items.shape), items)
    return oracle


@pytest.mark.parametrize("draw", [drawn_simply, drawn_by_the_sampler])
def test_correct_negatives_leave_the_oracle_at_chance(draw, split: Split) -> None:  # type: ignore[no-untyped-def]
    oracle = draw(split, split.train)
    for part in ("validation", "test"):
        audit = oracle.audit(split, part)
        assert audit.chance == pytest.approx(10 / 101)
        assert abs(audit.hit_rate - audit.chance) < 4 * audit.standard_error
        assert not audit.leaks


@pytest.mark.parametrize("draw", [drawn_simply, drawn_by_the_sampler])
def test_the_leak_put_in_on_purpose_is_found(draw, split: Split) -> None:  # type: ignore[no-untyped-def]
    oracle = draw(split, with_items(split.train, split.test))
    audit = oracle.audit(split, "test")
    assert audit.hit_rate > 0.9
    assert audit.leaks
    assert evaluate(oracle.scorer(), split, "test").full["hr@10"] > 0.9
    assert not oracle.audit(split, "validation").leaks  # only the test item was given away


def test_a_leak_of_the_validation_item_is_found(split: Split) -> None:
    oracle = drawn_by_the_sampler(split, with_items(split.train, split.validation))
    assert oracle.audit(split, "validation").hit_rate > 0.9


def test_a_blind_oracle_is_at_chance_and_not_below(split: Split) -> None:
    audit = LeakOracle(N_USERS, N_ITEMS).audit(split)
    assert abs(audit.hit_rate - audit.chance) < 4 * audit.standard_error
    assert audit.hit_rate > 0


def test_counts_come_first_and_noise_only_breaks_ties() -> None:
    oracle = LeakOracle(2, 4)
    oracle.observe(np.array([[0, 0], [0, 1]]), np.array([[2, 2], [0, -1]]))  # -1 is padding
    scores = oracle.scorer()(torch.tensor([0, 1]))
    assert torch.ceil(scores).tolist() == [[0.0, 1.0, -1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    assert len(set(scores[1].tolist())) == 4


def test_the_order_does_not_depend_on_chunks_but_on_the_seed(split: Split) -> None:
    one, other = LeakOracle(N_USERS, N_ITEMS, seed=1), LeakOracle(N_USERS, N_ITEMS, seed=2)
    ranks = rank_users(one.scorer(), split).full
    assert ranks.tolist() == rank_users(one.scorer(), split, chunk_users=7).full.tolist()
    assert ranks.tolist() != rank_users(other.scorer(), split).full.tolist()


def test_chance_follows_padded_negatives() -> None:
    split = split_of(14, [[0, 1, 2], [0, 1, 2, 3, 4, 5]], n_negatives=100)  # 11 and 8 negatives
    audit = LeakOracle(2, 14).audit(split)
    assert audit.chance == pytest.approx((10 / 12 + 1) / 2)
    assert audit.standard_error == pytest.approx(np.sqrt(10 / 12 * 2 / 12) / 2)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than"):
        LeakOracle(1_000_000, 1_000_000)
    oracle = LeakOracle(3, 4)
    with pytest.raises(DataError, match="shape"):
        oracle.observe(np.array([0, 1]), np.array([0]))
    with pytest.raises(DataError, match="user index"):
        oracle.observe(np.array([3]), np.array([0]))
    with pytest.raises(DataError, match="item index"):
        oracle.observe(np.array([0]), np.array([4]))
    oracle.observe(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
