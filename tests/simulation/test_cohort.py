"""Who takes part, what they train on, and how their histories are packed."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft import memory
from fedpeft.data.recency import RecencyConfig
from fedpeft.simulation.cohort import Cohort, CohortSampler
from toys import made_split

CPU = torch.device("cpu")
FLAT = RecencyConfig()


def sampler(
    lengths: list[int],
    n_items: int = 30,
    *,
    share: float = 1.0,
    negatives: int = 0,
    recency: RecencyConfig = FLAT,
    seed: int = 0,
) -> CohortSampler:
    train = made_split(lengths, n_items).train
    return CohortSampler(
        train, n_items, share=share, negatives=negatives, recency=recency, seed=seed
    )


@pytest.mark.parametrize(
    ("users", "share", "size"),
    [(10, 0.25, 2), (10, 0.01, 1), (10, 1.0, 10), (1, 0.1, 1), (0, 1, 0)],
)
def test_cohort_size(users: int, share: float, size: int) -> None:
    cohort = sampler([2] * users, share=share).draw(0)
    assert len(cohort) == size == len(set(cohort.rows.tolist()))


def test_rounds_draw_their_own_cohorts_whatever_was_drawn_before() -> None:
    lengths = list(range(1, 21))
    one, two = (sampler(lengths, share=0.2, negatives=2) for _ in range(2))
    for number in range(5):
        one.draw(number)
    late, fresh = one.draw(5), two.draw(5)
    assert np.array_equal(late.rows, fresh.rows)
    assert np.array_equal(late.items, fresh.items)
    assert not np.array_equal(late.rows, one.draw(6).rows)


def test_everybody_is_drawn_equally_often() -> None:
    drawing = sampler([1] * 10, share=0.3)
    counts = np.bincount(
        np.concatenate([drawing.draw(number).rows for number in range(1000)]), minlength=10
    )
    # binomial(1000, .3): mean 300, standard deviation 14.5
    assert abs(counts - 300).max() < 5 * 14.5


@given(st.lists(st.integers(0, 12), max_size=8), st.integers(0, 3), st.integers(0, 5))
def test_clients_train_on_their_own_histories(
    lengths: list[int], negatives: int, seed: int
) -> None:
    split = made_split(lengths, 20)
    drawing = sampler(lengths, 20, negatives=negatives, seed=seed)
    cohort = drawing.draw(0)
    assert sorted(cohort.rows.tolist()) == list(range(len(lengths)))
    assert (np.diff(cohort.lengths) >= 0).all()
    for position, user in enumerate(cohort.rows):
        items = cohort.of(position)
        own = split.train.of(user)
        assert items.shape == (len(own), 1 + negatives)
        assert items[:, 0].tolist() == own.tolist()  # oldest first
        assert not set(items[:, 1:].ravel().tolist()) & set(own.tolist())


def test_held_out_items_may_be_drawn_as_negatives() -> None:
    """Leaving them out tells the model what comes next (the leak of most public code)."""
    drawing = sampler([3], 5, negatives=4)
    outside = set(range(5)) - set(made_split([3], 5).train.of(0).tolist())
    drawn = {item for n in range(20) for item in drawing.draw(n).items[:, 1:].ravel().tolist()}
    assert drawn == outside


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 29), min_size=1, max_size=30),
    negatives=st.integers(0, 2),
    most=st.sampled_from([1, 160, 10**6]),
    worthwhile=st.sampled_from([0, 200]),
    half_life=st.sampled_from([0.0, 2.0]),
)
def test_buckets_hold_everyone_once(
    lengths: list[int], negatives: int, most: int, worthwhile: int, half_life: float
) -> None:
    limits = memory.Limits(most, worthwhile, cached=1, spread=1.5)
    recency = RecencyConfig(half_life=half_life, floor=0.25)
    cohort = sampler(lengths, negatives=negatives, recency=recency).draw(0)
    position = 0
    with patch.dict(memory.LIMITS, cpu=limits):
        buckets = list(cohort.buckets(1, CPU))
    for bucket in buckets:
        clients, longest, width = bucket.items.shape
        assert width == 1 + negatives
        size = 4 * bucket.items.numel()
        assert clients == 1 or size <= most
        assert size <= worthwhile or longest <= max(12, 1.5 * int(bucket.lengths.min()))
        for row in range(clients):
            length = int(cohort.lengths[position])
            assert bucket.rows[row] == cohort.rows[position]
            assert bucket.ids[row] == cohort.ids[position]
            assert bucket.lengths[row] == length
            inside, padding = bucket.items[row, :length], bucket.items[row, length:]
            assert np.array_equal(inside.numpy(), cohort.of(position))
            assert not padding.any()
            ages = np.arange(length)[::-1]
            weight = 0.25 + 0.75 * 0.5 ** (ages / 2) if half_life else np.ones(length)
            np.testing.assert_allclose(bucket.weight[row, :length].numpy(), weight, rtol=1e-6)
            assert not bucket.weight[row, length:].any()
            position += 1
    assert position == len(cohort)


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=8), st.integers(0, 3), st.integers(13, 900)
)
def test_compact_names_each_distinct_item_once(
    lengths: list[int], negatives: int, n_items: int
) -> None:
    cohort: Cohort = sampler(lengths, n_items, negatives=negatives).draw(0)
    for bucket in cohort.buckets(1, CPU):
        rows, local = bucket.compact(n_items)
        clients = len(bucket)
        assert local.shape == bucket.items.shape
        found = rows.gather(1, local.view(clients, -1)).view(bucket.items.shape)
        assert torch.equal(found, bucket.items)
        distinct = [set(bucket.items[row].flatten().tolist()) for row in range(clients)]
        assert rows.shape[1] == max(map(len, distinct))
        for row, own in enumerate(distinct):
            assert set(rows[row, : len(own)].tolist()) == own
            assert not rows[row, len(own) :].any()


def test_weights_follow_the_documented_curve() -> None:
    recency = RecencyConfig(half_life=2, floor=0.2)
    weights = recency.weights(np.array([0, 2, 4, 1000]))
    assert weights == pytest.approx([1.0, 0.6, 0.4, 0.2])
    assert FLAT.weights(np.array([0, 5])).tolist() == [1, 1]
