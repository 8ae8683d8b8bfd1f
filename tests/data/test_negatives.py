"""Training negatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.data import SplitConfig, TrainNegatives, negatives, split
from fedpeft.errors import DataError
from fedpeft.streams import ClientStream

from .made import dataset, histories, ragged


@given(ragged(spare=1), st.integers(1, 4), st.data())
def test_negatives_are_legal_and_aligned(
    made: tuple[list[list[int]], int], per_positive: int, data: st.DataObject
) -> None:
    rows, n_items = made
    users = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)) if rows else []
    sampler = TrainNegatives(histories(rows), n_items)
    drawn = sampler.sample(np.array(users, np.int64), per_positive, ClientStream(0))
    assert drawn.dtype == np.int64
    assert drawn.shape == (sum(len(rows[user]) for user in users), per_positive)
    start = 0
    for user in users:
        mine = drawn[start : start + len(rows[user])]
        start += len(rows[user])
        assert not set(mine.ravel().tolist()) & set(rows[user])
        assert ((mine >= 0) & (mine < n_items)).all()


@given(ragged(shortest=1, spare=1), st.integers(1, 4), st.integers(0, 99))
def test_both_lookups_draw_the_same(
    made: tuple[list[list[int]], int], per_positive: int, seed: int
) -> None:
    rows, n_items = made
    users = np.arange(len(rows))[::-1].copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "_CELLS_PER_DRAW", 10**9)  # the table whenever it may be used
        table = TrainNegatives(histories(rows), n_items, max_bitmap_bytes=10**9)
        first = table.sample(users, per_positive, ClientStream(seed))
    search = TrainNegatives(histories(rows), n_items, max_bitmap_bytes=0)
    second = search.sample(users, per_positive, ClientStream(seed))
    assert (first == second).all()


@pytest.mark.parametrize("bound", [0, 10**9])
def test_negatives_are_uniform(bound: int) -> None:
    sampler = TrainNegatives(histories([[1, 2, 3, 5, 8]]), 10, max_bitmap_bytes=bound)
    drawn = sampler.sample(np.zeros(1, np.int64), 4000, ClientStream(3)).ravel()
    counts = np.bincount(drawn, minlength=10)
    assert counts[[1, 2, 3, 5, 8]].sum() == 0
    free = counts[[0, 4, 6, 7, 9]]
    assert ((free - 4000) ** 2 / 4000).sum() < 18.5  # 0.999 quantile, 4 degrees of freedom


def test_held_out_items_are_drawn() -> None:
    """An item that is never a negative would be known to be held out (the leak of design 6)."""
    made = dataset([[0, 1, 2, 3, 4, 5]], 8)
    parts = split(made, SplitConfig(negatives=1))
    sampler = TrainNegatives(parts.train, made.n_items)
    drawn = sampler.sample(np.zeros(1, np.int64), 500, ClientStream(0))
    assert set(drawn.ravel().tolist()) == {4, 5, 6, 7}
    counts = np.bincount(drawn.ravel(), minlength=8)[4:]
    assert ((counts - 500) ** 2 / 500).sum() < 16.3  # 0.999 quantile, 3 degrees of freedom


def test_a_stream_draws_the_same_again_and_another_name_others() -> None:
    sampler = TrainNegatives(histories([[0, 1, 2]] * 3), 1000)
    users = np.arange(3)
    first = sampler.sample(users, 2, ClientStream(5, "round", 0))
    assert (sampler.sample(users, 2, ClientStream(5, "round", 0)) == first).all()
    assert (sampler.sample(users, 2, ClientStream(5, "round", 1)) != first).any()
    assert len(np.unique(first)) > 3, "clients with equal histories draw their own"


def test_draws_of_a_client_depend_on_nobody_else() -> None:
    sampler = TrainNegatives(histories([[0, 1, 2], [], [4, 5], [3]]), 6)

    def drawn(*users: int) -> list[list[int]]:
        return sampler.sample(np.array(users, np.int64), 4, ClientStream(0)).tolist()

    assert drawn(3, 0, 1, 2) == drawn(3) + drawn(0) + drawn(1) + drawn(2)
    assert drawn() == []


def test_ids_name_streams_and_users_are_places() -> None:
    everybody = TrainNegatives(histories([[0, 1], [2], [4, 5]]), 9)
    shard = TrainNegatives(histories([[2], [4, 5]]), 9)
    ids = np.array([1, 2])
    here = shard.sample(np.arange(2), 3, ClientStream(0), ids)
    assert (here == everybody.sample(ids, 3, ClientStream(0))).all()


def test_user_with_the_whole_catalogue() -> None:
    sampler, stream = TrainNegatives(histories([[0], [2, 0, 1]]), 3), ClientStream(0)
    for refused in (sampler.check, lambda users: sampler.sample(users, 1, stream)):
        with pytest.raises(DataError, match=r"user 1 has all 3 items"):
            refused(np.arange(2))
    assert sampler.sample(np.zeros(1, np.int64), 1, stream).size == 1  # the other can be scored


def test_user_with_one_item_left() -> None:
    sampler = TrainNegatives(histories([[0, 1, 3, 4]]), 5)
    assert (sampler.sample(np.zeros(1, np.int64), 9, ClientStream(0)) == 2).all()
