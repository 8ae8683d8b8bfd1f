"""Leave-one-out and evaluation negatives."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.data import SplitConfig, split
from fedpeft.data.ragged import Complement, sort_rows, take
from fedpeft.errors import DataError

from .made import dataset, histories, ragged


@given(ragged(shortest=3), st.integers(1, 12), st.integers(0, 5))
def test_split_equals_the_definition(
    made: tuple[list[list[int]], int], count: int, seed: int
) -> None:
    rows, n_items = made
    if not rows:
        return
    result = split(dataset(rows, n_items), SplitConfig(negatives=count, negatives_seed=seed))
    assert result.n_users == len(rows)
    assert result.eval_users.tolist() == list(range(len(rows)))
    assert result.negatives.shape == (len(rows), count)
    for user, row in enumerate(rows):
        assert result.train.of(user).tolist() == row[:-2]
        assert (result.validation[user], result.test[user]) == (row[-2], row[-1])
        drawn = result.negatives[user]
        real = drawn[drawn >= 0]
        assert len(real) == min(count, n_items - len(row))
        assert (drawn[len(real) :] == -1).all()
        assert len(set(real.tolist())) == len(real)
        assert not set(real.tolist()) & set(row)
        assert (real < n_items).all()


def test_negatives_are_uniform_over_sets() -> None:
    # 4 of 9 items are owned, so 2 of 5 are drawn: ten sets, each with probability 1/10
    users = 5000
    result = split(dataset([[8, 0, 3, 4]] * users, 9), SplitConfig(negatives=2))
    counts = Counter(tuple(sorted(row)) for row in result.negatives.tolist())
    assert set(counts) == set(combinations([1, 2, 5, 6, 7], 2))
    expected = users / 10
    chi2 = sum((seen - expected) ** 2 / expected for seen in counts.values())
    assert chi2 < 27.9  # 0.999 quantile with 9 degrees of freedom; the seed is fixed


def test_blocks_of_users_do_not_change_legality() -> None:
    rows = [[u % 50, (u + 7) % 50, (u + 20) % 50] for u in range(8200)]  # more than one block
    result = split(dataset(rows, 50), SplitConfig(negatives=40))
    owned = np.zeros((len(rows), 50), bool)
    np.put_along_axis(owned, np.array(rows), True, axis=1)
    assert not np.take_along_axis(owned, result.negatives, axis=1).any()
    assert (np.diff(np.sort(result.negatives, axis=1), axis=1) > 0).all()


def test_sample_of_users() -> None:
    made = dataset([[0, 1, 2]] * 40, 10)
    result = split(made, SplitConfig(negatives=5, max_eval_users=7))
    assert len(result.eval_users) == 7
    assert (np.diff(result.eval_users) > 0).all()
    assert result.negatives.shape == (7, 5)
    assert len(result.test) == 40
    everyone = split(made, SplitConfig(negatives=5, max_eval_users=400))
    assert everyone.eval_users.tolist() == list(range(40))


def test_same_settings_same_split() -> None:
    made = dataset([[0, 1, 2, 3], [4, 5, 6]], 40)
    first, second = (split(made, SplitConfig(negatives=9)) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert (first.negatives == second.negatives).all()


@pytest.mark.parametrize(
    "change",
    [
        {"rows": [[0, 1, 2, 3], [4, 5, 7]]},  # test item
        {"rows": [[0, 1, 2, 3], [4, 6, 5]]},  # validation and test swapped
        {"rows": [[1, 0, 2, 3], [4, 5, 6]]},  # order inside train
        {"rows": [[0, 1, 2], [3, 4, 5, 6]]},  # rows
        {"n_items": 41},
        {"negatives": 8},
        {"negatives_seed": 1},
        {"max_eval_users": 1},
    ],
)
def test_fingerprint_sees_every_change(change: dict[str, object]) -> None:
    def fingerprint(
        rows: list[list[int]], n_items: int = 40, negatives: int = 9, **settings: int
    ) -> str:
        config = SplitConfig(negatives=negatives, **settings)
        return split(dataset(rows, n_items), config).fingerprint

    rows = [[0, 1, 2, 3], [4, 5, 6]]
    assert fingerprint(**({"rows": rows} | change)) != fingerprint(rows)


def test_no_users() -> None:
    with pytest.raises(DataError, match="made has no users to split"):
        split(dataset([], 5), SplitConfig())


def test_short_history() -> None:
    with pytest.raises(DataError, match="user 'u1' of made has 2 items"):
        split(dataset([[0, 1, 2], [3, 4]], 5), SplitConfig())


def test_fields_stay_in_the_fingerprint() -> None:
    """A field added to Split must be added to the fingerprint, and to this list."""
    result = split(dataset([[0, 1, 2]], 5), SplitConfig(negatives=1))
    assert {field.name for field in dataclasses.fields(result)} == {
        "n_items", "train", "validation", "test", "eval_users", "negatives", "fingerprint",
        "validation_weights",
        "ordered",  # what is in no order stands in another one than what is
    }  # fmt: skip


@given(ragged())
def test_complement_lists_what_is_missing(made: tuple[list[list[int]], int]) -> None:
    rows, n_items = made
    missing = Complement(sort_rows(histories(rows), n_items), n_items)
    for user, row in enumerate(rows):
        expected = sorted(set(range(n_items)) - set(row))
        ranks = np.arange(missing.sizes[user])
        assert missing.at(np.full_like(ranks, user), ranks).tolist() == expected


@given(ragged(), st.data())
def test_take_equals_a_loop(made: tuple[list[list[int]], int], data: st.DataObject) -> None:
    rows, _ = made
    if not rows:
        return
    users = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    taken = take(histories(rows), np.array(users, np.int64))
    assert taken.n_users == len(users)
    for place, user in enumerate(users):
        assert taken.of(place).tolist() == rows[user]
