"""Kinds of events: which count, how much, and what stays of several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedpeft.data import SplitConfig, from_tables, split
from fedpeft.data.describe import told
from fedpeft.errors import ConfigError, DataError

LOG: dict[str, list[Any]] = {
    "user": ["a"] * 7 + ["b"] * 2,
    "item": [1, 2, 1, 3, 4, 2, 1, 1, 2],
    "time": [1, 2, 3, 4, 5, 6, 7, 1, 2],
    "event": ["view", "cart", "buy", "view", "cart", "view", "buy", "buy", None],
}
EVENTS = {"buy": 1.0, "cart": 0.5, "view": 0.125}


def test_the_strongest_of_several_stays_with_its_time_and_weight() -> None:
    data = from_tables(LOG, events=EVENTS)
    assert data.user_ids == ["a"]
    assert [data.catalogue.ids[item] for item in data.histories.items] == ["2", "1", "3", "4"]
    assert data.histories.weights is not None
    assert data.histories.weights.dtype == np.float32
    assert data.histories.weights.tolist() == [0.5, 1.0, 0.125, 0.5]
    assert data.counts["other_events_dropped"] == 1
    assert data.counts["duplicates_dropped"] == 3


def test_other_events_are_dropped_and_told() -> None:
    data = from_tables({**LOG, "event": ["cart"] * 5 + ["view", "buy", "x", "x"]},
                       events={"buy": 2.0, "cart": 1.0})  # fmt: skip
    assert data.histories.weights is not None
    assert data.histories.weights.tolist() == [1.0, 1.0, 1.0, 2.0]  # 2, 3, 4, and 1 at its buy
    assert told(data)[0] == (
        "tables: 4 of 9 interactions, of 1 users with 4 items; dropped were 3 of other "
        "events, 2 repeated"
    )


def test_without_events_all_count_alike_and_the_column_is_named() -> None:
    data = from_tables(LOG)
    assert data.histories.weights is None
    assert [data.catalogue.ids[item] for item in data.histories.items] == ["1", "2", "3", "4"]
    assert any("count alike" in note and "[data.events]" in note for note in data.notes), data.notes


def test_parts_of_a_split_keep_the_weights() -> None:
    data = from_tables(LOG, events=EVENTS)
    parts = split(data, SplitConfig(negatives=1))
    assert parts.train.weights is not None
    assert parts.train.weights.tolist() == [0.5, 1.0]
    before = parts.before("test")
    assert before.items.tolist() == [*parts.train.items.tolist(), parts.validation[0]]
    assert before.weights is not None
    assert before.weights.tolist() == [0.5, 1.0, 0.125]
    other = from_tables(LOG, events={**EVENTS, "cart": 0.25})
    assert split(other, SplitConfig(negatives=1)).fingerprint != parts.fingerprint


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"events": {"sale": 1.0}}, DataError, r"no event is 'sale', .* there are buy, cart, view"),
        ({"events": {"buy": 0.0}}, ConfigError, r"buy = 0 must be above 0; leave out"),
        ({"events": {"buy": "all"}}, ConfigError, r"data.events.buy = 'all'"),
        (
            {"events": {"buy": 1.0}, "columns": {"event": "kind"}},
            DataError,
            r"has no column 'kind'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    settings: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        from_tables(LOG, **settings)


def test_events_need_a_column() -> None:
    log = {name: column for name, column in LOG.items() if name != "event"}
    with pytest.raises(DataError, match=r"name its column in data\.columns\.event"):
        from_tables(log, events={"buy": 1.0})
