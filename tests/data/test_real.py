"""Shapes and clean splits of the real data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedpeft.data import DataConfig, SplitConfig, load, split

pytestmark = pytest.mark.realdata


@pytest.mark.parametrize(
    ("name", "users", "items", "interactions"),
    [
        ("ml-1m", 6040, 3706, 1_000_209),
        ("ml-100k", 943, 1682, 100_000),
        ("amazon-industrial", 8317, 4344, 58_492),
    ],
)
def test_shape_and_split(
    name: str, users: int, items: int, interactions: int, real_data: Path
) -> None:
    data = load(DataConfig(source=str(real_data / name)))
    assert (data.n_users, data.n_items, len(data.histories.items)) == (users, items, interactions)
    assert all(data.catalogue.texts)
    parts = split(data, SplitConfig())
    owned = np.zeros((users, items), bool)
    owned[np.repeat(np.arange(users), data.histories.lengths()), data.histories.items] = True
    assert owned.sum() == interactions
    assert not np.take_along_axis(owned, parts.negatives, axis=1).any()
    assert (np.diff(np.sort(parts.negatives, axis=1), axis=1) > 0).all()
    train = np.zeros((users, items), bool)
    train[np.repeat(np.arange(users), parts.train.lengths()), parts.train.items] = True
    everyone = np.arange(users)
    assert not train[everyone, parts.test].any()
    assert not train[everyone, parts.validation].any()
    assert (parts.test != parts.validation).all()


def test_last_of_ml_1m_is_the_largest_time(real_data: Path) -> None:
    import polars as pl

    table = pl.read_csv(real_data / "ml-1m" / "interactions.csv.gz")
    last = table.sort("timestamp").group_by("user_id").agg(pl.col("item_id").last())
    expected = {str(user): str(item) for user, item in last.rows()}
    data = load(DataConfig(source=str(real_data / "ml-1m")))
    found = {
        user: data.catalogue.ids[data.histories.of(place)[-1]]
        for place, user in enumerate(data.user_ids)
    }
    assert found == expected
