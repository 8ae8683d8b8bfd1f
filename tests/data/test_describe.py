"""Numbers about a data set."""

from __future__ import annotations

import json

from fedpeft.data import Catalogue, Dataset, describe

from .made import histories


def test_describe() -> None:
    data = Dataset(
        name="made",
        catalogue=Catalogue(list("abcd"), list("abcd"), ["one two", "", "one", "one two three"]),
        user_ids=["x", "y"],
        histories=histories([[0, 1, 2], [2]]),
        counts={"duplicates_dropped": 3},
    )
    found = describe(data)
    assert json.loads(json.dumps(found)) == found
    assert (found["users"], found["items"], found["interactions"]) == (2, 4, 4)
    assert found["density"] == 0.5
    assert (found["history"]["min"], found["history"]["median"], found["history"]["max"]) == (
        1,
        2,
        3,
    )
    assert (found["popularity"]["min"], found["popularity"]["max"]) == (0, 2)
    assert found["text_coverage"] == 0.75
    assert found["words"] == 1.5
    assert found["counts"] == {"duplicates_dropped": 3}


def test_describe_nothing() -> None:
    found = describe(Dataset("none", Catalogue([], [], []), [], histories([])))
    assert (found["users"], found["density"], found["history"]) == (0, 0.0, {})
