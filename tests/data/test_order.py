"""Ties of time are drawn, and so is everything where there are no times."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedpeft
from fedpeft.data import DataConfig, SplitConfig, describe, from_tables, load, split
from fedpeft.data.describe import told
from fedpeft.errors import ConfigError

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=40
)


def table(rows: list[tuple[int, int, int]]) -> dict[str, list[int]]:
    return {name: [row[i] for row in rows] for i, name in enumerate(("user", "item", "time"))}


def ordered(rows: list[tuple[int, int, int]], **keys: object) -> dict[str, list[str]]:
    """Return each user's items, oldest first."""
    data = from_tables(table(rows), **keys)
    return {
        user: [data.catalogue.ids[i] for i in data.histories.of(u)]
        for u, user in enumerate(data.user_ids)
    }


def enough(rows: list[tuple[int, int, int]]) -> bool:
    """Whether any user has three items."""
    return max(Counter(user for user, _ in {row[:2] for row in rows}).values()) >= 3


@settings(deadline=None)
@given(ROWS, st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_rows_of_the_file_decide_nothing(
    rows: list[tuple[int, int, int]], chance: random.Random, seed: int
) -> None:
    if not enough(rows):
        return
    shuffled = chance.sample(rows, len(rows))
    for how in ({}, {"order": "none"}):
        found = ordered(rows, order_seed=seed, **how)
        assert ordered(shuffled, order_seed=seed, **how) == found
    first = {}
    for user, item, time in rows:
        first[user, item] = min(time, first.get((user, item), time))
    for user, items in ordered(rows, order_seed=seed).items():
        times = [first[int(user), int(item)] for item in items]
        assert times == sorted(times)


def test_a_tie_does_not_go_by_item_and_each_item_wins_as_often() -> None:
    rows = [(user, item, 5) for user in range(3000) for item in range(4)]
    last = Counter(items[-1] for items in ordered(rows).values())
    assert set(last) == set("0123")
    chi2 = sum((count - 750) ** 2 / 750 for count in last.values())
    assert chi2 < 16.3  # 0.999 quantile with 3 degrees of freedom; the seed is fixed
    other = ordered(rows, order_seed=1)
    same = np.mean([other[user] == items for user, items in ordered(rows).items()])
    assert abs(same - 1 / 24) < 0.02
    assert {items[-1] for items in ordered(rows, ties="file").values()} == {"3"}


def test_a_tie_is_the_same_whoever_else_is_there() -> None:
    rows = [(user, item, 5) for user in range(5) for item in range(6)]
    assert ordered([row for row in rows if row[0] == 3])["3"] == ordered(rows)["3"]


def test_ties_are_told() -> None:
    times = {"a": (1, 2, 3), "b": (1, 2, 2), "c": (1, 1, 2), "d": (2, 2, 2)}
    rows = [(user, item, time) for user, all_ in times.items() for item, time in enumerate(all_)]
    for ties in ("seeded", "file"):
        data = from_tables(table(rows), ties=ties)
        assert data.counts["users_with_test_by_tie"] == 2
        assert data.counts["users_with_validation_by_tie"] == 3
        assert describe(data)["ties"] == {"test": 0.5, "validation": 0.75}
        assert "for 50.0% of the users a tie of times decided the test item" in told(data)[-1]


def write(folder: Path, header: str, *rows: str) -> Path:
    path = folder / "log.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def no_times(folder: Path) -> Path:
    return write(folder, "user,item", *(f"u{u},i{i}" for u in range(40) for i in range(8)))


def test_without_times_the_split_is_drawn_and_says_so(tmp_path: Path) -> None:
    data = load(DataConfig(source=str(no_times(tmp_path))))
    assert data.order == describe(data)["order"] == "none"
    assert "in no order" in told(data)[-1]
    assert "users_with_test_by_tie" not in data.counts
    parts = split(data, SplitConfig(negatives=1))
    assert not parts.ordered
    assert len(set(parts.test.tolist())) > 4


def test_the_order_of_the_file_is_asked_for_by_name(tmp_path: Path) -> None:
    data = load(DataConfig(source=str(no_times(tmp_path)), order="file"))
    assert data.order == "file"
    assert {data.catalogue.ids[item] for item in split(data, SplitConfig()).test} == {"i7"}


def test_ages_do_not_weigh_where_there_are_none(tmp_path: Path) -> None:
    source = no_times(tmp_path)
    run = fedpeft.configure(data=source)
    assert run.training.recency.half_life == "auto"
    prepared = fedpeft.prepare(run, cache=tmp_path / "cache")
    assert run.resolved(prepared.split).training.recency.half_life == 0
    asked = fedpeft.configure(data=source, settings=["training.recency.half_life=5"])
    with pytest.raises(ConfigError, match=r"half_life = 5 .* the data are in no order"):
        asked.resolved(prepared.split)
