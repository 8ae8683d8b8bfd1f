"""Ratings alone, columns by their usual names, and tables in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.data import DataConfig, Dataset, from_tables, load
from fedpeft.data.columns import USUAL
from fedpeft.errors import ConfigError, DataError

from .folders import BY_TIME, EVENTS, movielens_100k, movielens_latest, table


def named(data: Dataset) -> dict[str, list[str]]:
    return {
        user: [data.catalogue.ids[item] for item in data.histories.of(place)]
        for place, user in enumerate(data.user_ids)
    }


def ratings(folder: Path, name: str = "ratings.csv") -> Path:
    folder.mkdir(exist_ok=True)
    rows = ["userId,movieId,rating,timestamp", *(",".join(map(str, event)) for event in EVENTS)]
    (folder / name).write_text("\n".join(rows) + "\n")
    return folder / name


@pytest.mark.parametrize("single", [False, True])
def test_ratings_alone(single: bool, tmp_path: Path) -> None:
    path = ratings(tmp_path / "shop")
    data = load(DataConfig(source=str(path if single else path.parent), ties="file"))
    assert data.name == ("ratings" if single else "shop")
    assert named(data) == BY_TIME
    assert list(data.catalogue.ids) == list(data.catalogue.titles) == ["1", "2", "3", "4"]
    assert not data.has_texts
    assert data.counts["items_without_text"] == 4
    assert any("no file of items" in note for note in data.notes)
    assert any("columns of ratings.csv that play no part: rating" in note for note in data.notes)


def test_a_single_file_may_have_items_beside_it(tmp_path: Path) -> None:
    table(tmp_path)
    path = tmp_path / "interactions.csv"
    assert not load(DataConfig(source=str(path))).has_texts
    data = load(DataConfig(source=str(path), items_file="items.csv", ties="file"))
    assert data.has_texts
    assert named(data) == BY_TIME
    with pytest.raises(ConfigError, match=r"data\.interactions = 'x\.csv' would not act"):
        load(DataConfig(source=str(path), interactions="x.csv"))


def test_a_table_beside_a_known_format_is_not_meant(tmp_path: Path) -> None:
    movielens_100k(tmp_path)
    ratings(tmp_path, "export.csv")
    assert load(DataConfig(source=str(tmp_path))).has_texts
    films = movielens_latest(tmp_path / "films")
    assert load(DataConfig(source=str(films))).has_texts
    assert not load(DataConfig(source=str(films / "ratings.csv"))).has_texts


def test_other_tables_are_named(tmp_path: Path) -> None:
    table(tmp_path)
    (tmp_path / "items.csv").rename(tmp_path / "articles.csv")
    data = load(DataConfig(source=str(tmp_path)))
    assert any("not read: articles.csv; data.items_file" in note for note in data.notes)


def test_rating_is_found_where_it_is_needed(tmp_path: Path) -> None:
    data = load(DataConfig(source=str(ratings(tmp_path)), min_rating=3, ties="file"))
    assert named(data) == {"7": ["2", "3", "1"], "8": ["3", "1", "4"]}


def spelt(name: str, how: int) -> str:
    return (name, name.upper(), "_".join(name), name.title(), f" {name}")[how]


@settings(deadline=None)
@given(st.data())
def test_columns_go_by_usual_names_in_any_spelling(draw: st.DataObject) -> None:
    chosen = {
        key: spelt(draw.draw(st.sampled_from(sorted(USUAL[key]))), draw.draw(st.integers(0, 4)))
        for key in ("user", "item", "timestamp")
    }
    user, item, time = chosen.values()
    rows = [(u, i, t) for u, i, _, t in EVENTS]
    columns = {name: [row[at] for row in rows] for at, name in enumerate((user, item, time))}
    assert named(from_tables(columns, ties="file")) == BY_TIME


def test_usual_names_do_not_overlap() -> None:
    names = [name for key, names in USUAL.items() if key != "title" for name in names]
    assert len(names) == len(set(names))


BASE = {"user_id": ["a"] * 3, "item_id": [1, 2, 3], "timestamp": [1, 2, 3]}


@pytest.mark.parametrize(
    ("columns", "settings", "sentence"),
    [
        ({"asin": [1] * 3, "parent_asin": [1] * 3}, {}, "several columns that may be the item: "
         "asin, parent_asin; name one in data.columns.item"),
        ({"what": [1] * 3}, {}, "no column 'item_id', nor another usual name of the item; its "
         "columns are user_id, timestamp, what; name one in data.columns.item"),
        ({"what": [1] * 3}, {"columns": {"item": "which"}}, "has no column 'which'"),
        ({"item": [1] * 3, "stars": [1.0] * 3, "score": [1.0] * 3}, {"min_rating": 1.0},
         "several columns that may be the rating: stars, score"),
    ],
)  # fmt: skip
def test_what_may_be_meant_otherwise_is_refused(
    columns: dict[str, Any], settings: dict[str, Any], sentence: str
) -> None:
    log = {name: column for name, column in BASE.items() if name != "item_id"} | columns
    with pytest.raises(DataError, match=sentence):
        from_tables(log, **settings)


def test_a_default_name_goes_before_others() -> None:
    data = from_tables({**BASE, "user": ["x", "y", "z"], "date": [3, 2, 1]})
    assert named(data) == {"a": ["1", "2", "3"]}


class Capsule:
    """An Arrow table of which nothing is known but its interface."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def test_tables_in_memory_give_what_files_give(tmp_path: Path) -> None:
    expected = load(DataConfig(source=str(table(tmp_path))))
    log = pl.read_csv(tmp_path / "interactions.csv")
    items = pl.read_csv(tmp_path / "items.csv")
    for wrap in (lambda frame: frame, pl.DataFrame.lazy, Capsule, pl.DataFrame.to_dict):
        data = from_tables(wrap(log), wrap(items))
        assert named(data) == named(expected)
        assert data.catalogue == expected.catalogue or (
            data.catalogue.ids == expected.catalogue.ids
            and data.catalogue.titles == expected.catalogue.titles
        )
        assert data.counts == expected.counts


def test_pandas_and_arrow_tables() -> None:
    arrow = pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    expected = named(from_tables(BASE))
    assert named(from_tables(arrow.table(BASE))) == expected
    assert named(from_tables(pandas.DataFrame(BASE))) == expected


@pytest.mark.parametrize("given_", [3, "ratings.csv", object(), [], pl.DataFrame()])
def test_what_is_no_table_is_refused(given_: Any) -> None:
    with pytest.raises(DataError, match=r"^interactions"):
        from_tables(given_)


def test_settings_of_tables() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'data\.minimum'"):
        from_tables(BASE, minimum=3)
    with pytest.raises(ConfigError, match="a setting of files"):
        from_tables(BASE, source="x")
