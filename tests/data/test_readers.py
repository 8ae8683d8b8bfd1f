"""Every reader on a tiny folder of its format, and the choice among them."""

from __future__ import annotations

import gzip
import json
import re
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from fedpeft.data import DataConfig, Dataset, RawTables, load, readers
from fedpeft.errors import ConfigError, DataError

from .folders import (
    BY_FILE,
    BY_TIME,
    FORMATS,
    amazon_2018,
    amazon_2023,
    movielens_1m,
    movielens_100k,
    recbole,
    table,
)


def named(data: Dataset) -> dict[str, list[str]]:
    """Return each user's item ids, oldest first."""
    return {
        user: [data.catalogue.ids[item] for item in data.histories.of(place)]
        for place, user in enumerate(data.user_ids)
    }


def test_every_builtin_reader_is_tested() -> None:
    assert readers.names() == sorted(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_histories_and_counts(name: str, tmp_path: Path) -> None:
    data = load(DataConfig(source=str(FORMATS[name](tmp_path / "made")), ties="file"))
    assert data.name == "made"
    assert named(data) == BY_TIME
    assert list(data.catalogue.ids) == ["1", "2", "3", "4"]
    expected = {
        "interactions_read": 10,
        "items_read": 6,
        "duplicates_dropped": 1,
        "users_dropped": 1,
        "interactions_of_dropped_users": 2,
        "unknown_items_dropped": 0,
        "items_without_interaction_dropped": 2,
        "items_without_text": 0,
        "users_with_test_by_tie": 1,
        "users_with_validation_by_tie": 1,
        "users": 2,
        "items": 4,
        "interactions": 7,
    }
    assert data.counts == expected | ({"repeated_items_dropped": 0} if "amazon" in name else {})


@pytest.mark.parametrize("name", FORMATS)
def test_titles_and_texts(name: str, tmp_path: Path) -> None:
    data = load(DataConfig(source=str(FORMATS[name](tmp_path)), items="all"))
    assert data.n_items == 6
    assert data.catalogue.titles[0] == "Café by the Canal (2031)"
    second = data.catalogue.texts[1]
    assert second.startswith("The Lantern Thief (2032). ")
    assert "Calm" in second
    assert "Loud" in second
    assert "|" not in second


def test_file_order(tmp_path: Path) -> None:
    source = str(movielens_1m(tmp_path))
    assert named(load(DataConfig(source=source, order="file"))) == BY_FILE


def test_file_order_without_a_time_column(tmp_path: Path) -> None:
    source = str(table(tmp_path))
    for none in (None, ""):
        values = {"source": source, "columns": {"timestamp": none}}
        assert named(load(DataConfig.model_validate({**values, "order": "file"}))) == BY_FILE
        drawn = load(DataConfig.model_validate(values))
        assert drawn.order == "none"
        assert {user: sorted(items) for user, items in named(drawn).items()} == {
            user: sorted(items) for user, items in BY_FILE.items()
        }


def test_file_order_by_a_column(tmp_path: Path) -> None:
    """A table that was sorted by time may say where its rows once were."""
    rows = "".join(f"7,{item},{item},{9 - item}\n" for item in (1, 2, 3, 4))
    (tmp_path / "interactions.csv").write_text(f"user_id,item_id,timestamp,place\n{rows}")
    items = "".join(f"{item},Film {item}\n" for item in (1, 2, 3, 4))
    (tmp_path / "items.csv").write_text(f"item_id,title\n{items}")
    values = {"source": str(tmp_path), "columns": {"position": "place"}}
    by_time = load(DataConfig.model_validate(values))
    assert named(by_time) == {"7": ["1", "2", "3", "4"]}
    by_place = load(DataConfig.model_validate({**values, "order": "file"}))
    assert named(by_place) == {"7": ["4", "3", "2", "1"]}
    (tmp_path / "interactions.csv").write_text(f"user_id,item_id,timestamp,place\n{rows}7,5,5,\n")
    with pytest.raises(DataError, match=r"interactions\.csv, line 6 has an empty place"):
        load(DataConfig.model_validate({**values, "order": "file"}))


def test_min_rating(tmp_path: Path) -> None:
    data = load(DataConfig(source=str(movielens_1m(tmp_path)), min_rating=3, ties="file"))
    # user 7 keeps 3, 2 and the second view of 1; user 8 loses item 2
    assert named(data) == {"7": ["2", "3", "1"], "8": ["3", "1", "4"]}
    assert data.counts["low_rated_dropped"] == 3


def test_min_interactions(tmp_path: Path) -> None:
    source = str(movielens_1m(tmp_path))
    data = load(DataConfig(source=source, min_interactions=4, ties="file"))
    assert named(data) == {"8": BY_TIME["8"]}
    with pytest.raises(DataError, match=r"no user of .* has 5 or more items"):
        load(DataConfig(source=str(tmp_path), min_interactions=5))


def test_own_columns_files_and_parquet(tmp_path: Path) -> None:
    days = [datetime(2030, 1, day) for day in (3, 2, 1)]
    pl.DataFrame({"who": [1, 1, 1], "what": [10, 20, 30], "day": days}).write_parquet(
        tmp_path / "log.parquet"
    )
    text = "what\tname\tkind\tprice\n30\tCup\tblue cup\t3\n10\tBowl\t\t2\n20\t\tgreen hat\t1\n"
    (tmp_path / "things.tsv.gz").write_bytes(gzip.compress(text.encode()))
    columns = {"user": "who", "item": "what", "timestamp": "day", "title": "name"}
    values = {
        "source": str(tmp_path),
        "interactions": "log.parquet",
        "items_file": "things.tsv.gz",
        "columns": columns | {"text": ["name", "kind"]},
    }
    data = load(DataConfig.model_validate(values))
    assert named(data) == {"1": ["30", "20", "10"]}
    assert list(data.catalogue.titles) == ["Cup", "Bowl", "20"]
    assert list(data.catalogue.texts) == ["Cup. blue cup", "Bowl", "green hat"]


def test_parquet_texts_are_its_text_columns(tmp_path: Path) -> None:
    table(tmp_path)
    (tmp_path / "items.csv").unlink()
    items = {"item_id": [1, 2, 3, 4], "title": list("abcd"), "price": [1, 2, 3, 4]}
    pl.DataFrame(items).write_parquet(tmp_path / "items.parquet")
    data = load(DataConfig(source=str(tmp_path)))
    assert list(data.catalogue.texts) == ["a", "b", "c", "d"]


def test_enum_and_empty_columns_of_parquet(tmp_path: Path) -> None:
    table(tmp_path)
    (tmp_path / "items.csv").unlink()
    items = pl.DataFrame(
        {"item_id": [1, 2, 3, 4], "title": [None] * 4, "genre": list("abcd")},
        schema_overrides={"genre": pl.Enum(list("abcd"))},
    )
    items.write_parquet(tmp_path / "items.parquet")
    data = load(DataConfig(source=str(tmp_path)))
    assert list(data.catalogue.texts) == ["a", "b", "c", "d"]
    assert list(data.catalogue.titles) == ["1", "2", "3", "4"]
    items.drop("genre").write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match="has no text"):
        load(DataConfig(source=str(tmp_path)))


def test_fractional_and_nanosecond_times_keep_their_order(tmp_path: Path) -> None:
    table(tmp_path)
    for times in (("0.5", "0.25", "1e3"), (f"{2**60 + 1}", f"{2**60}", f"{2**60 + 2}")):
        rows = [f"1,{item},1,{time}" for item, time in zip((1, 2, 3), times, strict=True)]
        text = "\n".join(["user_id,item_id,rating,timestamp", *rows])
        (tmp_path / "interactions.csv").write_text(text)
        assert named(load(DataConfig(source=str(tmp_path)))) == {"1": ["2", "1", "3"]}


def test_amazon_drops_unknown_and_repeated_items_and_cleans_text(tmp_path: Path) -> None:
    amazon_2018(tmp_path)
    meta = [
        {"asin": "1", "title": "var aPage = getTime()", "brand": "A", "description": "x <br/> y"},
        {"asin": "2", "title": "B", "category": [["C", "D"], ["E"]]},
        {"asin": "3", "title": "F"},
        {"asin": "3", "title": "again"},
    ]
    text = "\n".join(map(json.dumps, meta)).encode()
    (tmp_path / "meta_Things.json.gz").write_bytes(gzip.compress(text))
    data = load(DataConfig(source=str(tmp_path)))
    assert data.counts["repeated_items_dropped"] == 1
    assert data.counts["unknown_items_dropped"] == 2
    assert list(data.catalogue.titles) == ["1", "B", "F"]
    assert list(data.catalogue.texts) == ["A. x y", "B. C, D, E", "F"]
    with pytest.raises(DataError, match="item '4' is not in"):
        load(DataConfig(source=str(tmp_path), unknown_items="error"))


def test_amazon_2023_texts(tmp_path: Path) -> None:
    data = load(DataConfig(source=str(amazon_2023(tmp_path))))
    assert data.catalogue.texts[0] == (
        "Café by the Canal (2031). Acme & Sons. Things, Sad. Soft. Nice"
    )


def test_recbole_columns(tmp_path: Path) -> None:
    """Types say what is text; names are mapped without them; ratings need no mention."""
    values = {"source": str(recbole(tmp_path)), "min_rating": 3}
    assert named(load(DataConfig.model_validate(values))) == {
        "7": ["2", "3", "1"], "8": ["3", "1", "4"],
    }  # fmt: skip
    assert load(DataConfig.model_validate(values)).catalogue.texts[0] == (
        "Café by the Canal (2031). Sad"
    )
    columns = {"title": "class", "text": ["class"]}
    data = load(DataConfig.model_validate(values | {"columns": columns}))
    assert (data.catalogue.titles[0], data.catalogue.texts[0]) == ("Sad", "Sad")
    path = tmp_path / "things.item"
    path.write_text(path.read_text("utf-8").replace("price:float", "price"), "utf-8")
    with pytest.raises(DataError, match=r"things\.item, line 1 names a column 'price'; a name is"):
        load(DataConfig.model_validate(values))
    (tmp_path / "things.train.inter").touch()
    with pytest.raises(
        DataError, match=r"must hold one \*\.inter file, not things\.inter, things\."
    ):
        load(DataConfig.model_validate(values))


def test_movielens_in_either_encoding(tmp_path: Path) -> None:
    """1M is Latin-1 and 10M UTF-8; a file that is both is neither."""
    path = movielens_1m(tmp_path) / "movies.dat"
    latin = path.read_bytes()
    path.write_text(latin.decode("latin-1"), encoding="utf-8")
    titles = load(DataConfig(source=str(tmp_path))).catalogue.titles
    assert titles[0] == "Café by the Canal (2031)"
    path.write_bytes(path.read_bytes() + b"7::Caf\xe9::Calm\n")
    with pytest.raises(DataError, match=r"movies\.dat, line 7 is not valid UTF-8"):
        load(DataConfig(source=str(tmp_path)))


@pytest.mark.parametrize("ending", [".CSV", ".Csv.GZ", ".DAT", ".jsonl", ".NDJSON.gz", ".json"])
def test_formats_of_tables(ending: str, tmp_path: Path) -> None:
    """Each format gives what CSV gives, in capitals too, found or named."""
    folder = table(tmp_path / "made")
    expected = load(DataConfig(source=str(folder)))
    for stem in ("interactions", "items"):
        path = folder / f"{stem}.csv"
        frame = pl.read_csv(path)
        text = path.read_text("utf-8")
        if ending == ".DAT":
            text = text.replace(",", "::").replace('"', "")
        elif "json" in ending.lower():
            text = frame.write_ndjson()
        data = text.encode()
        path.unlink()
        zipped = ending.lower().endswith(".gz")
        (folder / f"{stem.title()}{ending}").write_bytes(gzip.compress(data) if zipped else data)
    files = {"interactions": f"Interactions{ending}", "items_file": f"Items{ending}"}
    for names in ({}, files):
        found = load(DataConfig.model_validate({"source": str(folder)} | names))
        assert named(found) == named(expected)
        assert found.catalogue.texts == expected.catalogue.texts
        assert found.catalogue.titles == expected.catalogue.titles


def test_json_lines_of_mixed_types(tmp_path: Path) -> None:
    """Numbers beside text are text, keys may be missing, lists are texts, the rest is refused."""
    table(tmp_path)
    for name in ("interactions", "items"):
        (tmp_path / f"{name}.csv").unlink()
    rows = [
        {"user_id": "7", "item_id": 1.0, "timestamp": "2030-01-03T00:00:00Z", "more": {"a": 1}},
        {"user_id": 7, "item_id": 2, "timestamp": "2030-01-01T00:00:00Z"},
        {"more": [1], "user_id": 7, "item_id": 3, "timestamp": "2030-01-02T00:00:00Z"},
    ]
    items = [
        {"item_id": 1, "title": "Cup \U0001f600", "tags": ["blue", "old"]},
        {"item_id": 2, "title": None, "tags": []},
        {"item_id": 3, "tags": ["green"], "price": 2.5},
    ]
    (tmp_path / "interactions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    config = DataConfig(source=str(tmp_path), empty_text="keep")
    data = load(config)
    assert named(data) == {"7": ["2", "3", "1"]}
    assert list(data.catalogue.titles) == ["Cup \U0001f600", "2", "3"]
    assert list(data.catalogue.texts) == ["Cup \U0001f600. blue, old", "", "green"]
    for line, said in (
        ('{"user_id": 7', "line 4 is not JSON"),
        ("[1]", "line 4 is not a JSON object; each line must hold one"),
        ('{"user_id": "\\ud800"}', "line 4 is not JSON"),
        ("[" * 10_000, "line 4 is not JSON"),
        ('{"item_id": 1}', "line 4: user_id is empty"),
        ('{"user_id": {"a": 1}}', "the column 'user_id' is of type Object"),
        ('{"user_id": true}', "the column 'user_id' is of type Object"),
    ):
        text = "\n".join([*map(json.dumps, rows), line])
        (tmp_path / "interactions.jsonl").write_text(text)
        with pytest.raises(
            DataError,
            match=re.escape(f"interactions.jsonl{', ' if 'line' in said else ': '}{said}"),
        ):
            load(config)


def test_ids_of_two_programs_meet(tmp_path: Path) -> None:
    """One wrote 7.0 because it once missed an id, the other 7."""
    table(tmp_path)
    rows = [f"7.0,{item}.0,{item}" for item in (1, 2, 3)]
    text = "\n".join(["user_id,item_id,timestamp", *rows])
    (tmp_path / "interactions.csv").write_text(text)
    assert named(load(DataConfig(source=str(tmp_path)))) == {"7": ["1", "2", "3"]}


def test_a_reader_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Homemade:
        expects = "log.txt"

        def __init__(self, config: DataConfig) -> None:
            self.config = config

        def recognises(self, folder: Path) -> bool:
            return (folder / "log.txt").is_file()

        def read(self, folder: Path) -> RawTables:
            events = pl.DataFrame({"user": ["u"] * 3, "item": ["c", "a", "b"]})
            items = pl.DataFrame([{"id": i, "title": i, "text": i} for i in "abc"])
            return RawTables("homemade", events, items, folder / "log.txt", folder / "log.txt")

    readers.names()  # the built-in ones are there before the copy is made
    monkeypatch.setattr(readers, "_parts", dict(readers._parts))
    readers.register("homemade", config=DataConfig, build=Homemade)
    (tmp_path / "log.txt").touch()
    found = load(DataConfig(source=str(tmp_path), order="file"))
    assert named(found) == {"u": ["c", "a", "b"]}


def test_none_fits(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(DataConfig(source=str(tmp_path)))
    for name in FORMATS:
        assert f"{name}: " in str(caught.value)
    assert "ratings.dat and movies.dat" in str(caught.value)


def test_several_fit(tmp_path: Path) -> None:
    movielens_100k(tmp_path)
    movielens_1m(tmp_path)
    with pytest.raises(DataError, match=r"several readers \(movielens_100k, movielens_1m\)"):
        load(DataConfig(source=str(tmp_path)))
    config = DataConfig(source=str(tmp_path), reader="movielens_1m", ties="file")
    assert named(load(config)) == BY_TIME


def test_unknown_reader(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown data reader 'netflix'"):
        load(DataConfig(source=str(tmp_path), reader="netflix"))


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        load(DataConfig(source=str(tmp_path / "nowhere")))
