"""Malformed files: one sentence with the file and the line or row."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fedpeft.data import DataConfig, load
from fedpeft.errors import DataError

from .folders import FORMATS, table

HEADER = "user_id,item_id,rating,timestamp\n"


def change(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Return an edit that replaces the first `old` in a file."""

    def apply(folder: Path) -> None:
        data = (folder / name).read_bytes()
        data = gzip.decompress(data) if name.endswith(".gz") else data
        assert old.encode("latin-1") in data
        data = data.replace(old.encode("latin-1"), new.encode("latin-1"), 1)
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)

    return apply


def write(name: str, data: bytes) -> Callable[[Path], None]:
    """Return an edit that replaces a whole file."""
    return lambda folder: (folder / name).write_bytes(data) and None


# format, edit, file named in the message, rest of the message
CASES = [
    ("movielens_100k", change("u.data", "8\t1\t5\t10", "8\t1\t5"), "u.data", "line 2 has 3 fields"),
    ("movielens_100k", change("u.data", "8\t1\t5", "8\t1\t5\t5"), "u.data", "line 2 has 5 fields"),
    ("movielens_100k", change("u.data", "5\t10", "5\tten"), "u.data",
     "line 2: timestamp = 'ten' is not a number"),
    ("movielens_100k", change("u.data", "8\t1\t5", "8\t1\tx"), "u.data",
     "line 2: rating = 'x' is not a number"),
    ("movielens_100k", change("u.data", "8\t1", "\t1"), "u.data", "line 2: user is empty"),
    ("movielens_100k", change("u.item", "2|The", "2The"), "u.item", "line 2 has 7 fields"),
    ("movielens_100k", change("u.item", "0|1|0", "0|2|0"), "u.item", "film 1: genre flags"),
    ("movielens_100k", change("u.genre", "Sad|1", "Sad|7"), "u.genre", "must number its genres"),
    ("movielens_100k", change("u.item", "3|Moss", "2|Moss"), "u.item",
     "row 3: item id '2' is repeated"),
    ("movielens_100k", write("u.data", b""), "u.data", "is empty"),
    ("movielens_100k", write("u.item", b"\n"), "u.item", "is empty"),
    ("movielens_1m", change("ratings.dat", "7::1::2", "7:1::2"), "ratings.dat", "line 3 has 3"),
    ("movielens_1m", change("movies.dat", "3::Moss", "3::Mo::ss"), "movies.dat", "line 3 has 4"),
    ("movielens_1m", write("ratings.dat", b"\xff::1::1::1\n"), "ratings.dat",
     "line 1 is not valid UTF-8"),
    ("movielens_latest", change("movies.csv", "genres\n", "genre\n"), "movies.csv",
     "has no column 'genres'; its columns are movieId, title, genre"),
    ("amazon_2018", change("Things_5.json.gz", '"asin"', '"asim"'), "Things_5", "line 1 has no"),
    ("amazon_2018", write("meta_Things.json.gz", gzip.compress(b"{}" * 50)[:-9]), "meta_",
     "is not a complete gzip file"),
    ("amazon_2018", write("meta_Things.json.gz", gzip.compress(b'{"asin": "\xff"}')), "meta_",
     "line 1 is not valid UTF-8"),
    ("amazon_2018", change("Things_5.json.gz", "{", ""), "Things_5", "line 1 is not JSON"),
    ("amazon_2018", write("meta_Things.json.gz", gzip.compress(b"[1]\n")), "meta_",
     "line 1 is not a JSON object"),
    ("amazon_2018", change("Things_5.json.gz", ": 300", ': "x"'), "Things_5",
     "line 1: unixReviewTime = 'x' is not a number"),
    ("table", change("interactions.csv", "8,1,5,10", "8,1,5,nan"), "interactions.csv",
     "line 3 has an empty timestamp"),
    ("table", change("interactions.csv", "8,1,5,10", "8,1,5,inf"), "interactions.csv", "line 3"),
    ("table", change("interactions.csv", "8,1,5,10", "8,1,5,"), "interactions.csv",
     "line 3 has an empty timestamp"),
    ("table", change("interactions.csv", "8,1,5,10", "8,,5,10"), "interactions.csv",
     "line 3: item_id is empty"),
    ("table", change("interactions.csv", "8,1,5,10", "8,1,5,10\n"), "interactions.csv",
     "line 4 is blank"),
    ("table", change("interactions.csv", "8,1,5,10", "8,99,5,10"), "interactions.csv",
     "row 2: item '99' is not in"),
    ("table", change("interactions.csv", "user_id", "who"), "interactions.csv",
     "no column 'user_id'"),
    ("table", write("interactions.csv", HEADER.encode()), "interactions.csv", "has no rows"),
    ("table", write("items.csv", b"item_id,title\n1,\"x\n"), "items.csv",
     "line 2 opens a quoted field that never ends"),
    ("table", change("items.csv", "(2032)", "\xff"), "items.csv", "line 3 is not valid UTF-8"),
    ("table", change("items.csv", "\n3,", "\n,"), "items.csv", "line 4: item_id is empty"),
    ("table", change("items.csv", '"Moss (2030)",Loud', ","), "items.csv",
     "item '3' has no text (1 such items)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "edit", "file", "sentence"), CASES)
def test_malformed(
    name: str, edit: Callable[[Path], None], file: str, sentence: str, tmp_path: Path
) -> None:
    folder = FORMATS[name](tmp_path)
    load(DataConfig(source=str(folder)))  # well-formed before the edit
    edit(folder)
    with pytest.raises(DataError) as caught:
        load(DataConfig(source=str(folder), reader=name))
    message = str(caught.value)
    assert file in message
    assert sentence in message
    assert "\n" not in message


@pytest.mark.parametrize("cut", [3, 40, -5])
def test_truncated_gzip(cut: int, tmp_path: Path) -> None:
    path = table(tmp_path) / "interactions.csv"
    whole = gzip.compress(path.read_bytes())
    path.unlink()
    (tmp_path / "interactions.csv.gz").write_bytes(whole[:cut])
    with pytest.raises(DataError, match=r"interactions.csv.gz is not a complete gzip file"):
        load(DataConfig(source=str(tmp_path)))


def test_damaged_gzip(tmp_path: Path) -> None:
    path = table(tmp_path) / "items.csv"
    whole = bytearray(gzip.compress(path.read_bytes()))
    whole[30] ^= 255
    path.unlink()
    (tmp_path / "items.csv.gz").write_bytes(whole)
    with pytest.raises(DataError, match=r"items.csv.gz is not a complete gzip file"):
        load(DataConfig(source=str(tmp_path)))


def test_damaged_parquet(tmp_path: Path) -> None:
    table(tmp_path)
    (tmp_path / "items.csv").unlink()
    (tmp_path / "items.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"items.parquet is not a readable Parquet file"):
        load(DataConfig(source=str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "column", "values", "settings"),
    [
        ("interactions", "user_id", [[1], [1], [2]], {}),
        ("interactions", "timestamp", [{"a": 1}] * 3, {}),
        ("items", "title", [[b"x"]] * 3, {}),
        ("items", "title", [[1]] * 3, {}),
        ("items", "title", [b"\xff"] * 3, {}),
        ("items", "tags", [[1], [2], [3]], {"columns": {"text": ["tags"]}}),
    ],
)
def test_a_column_of_more_than_one_value(
    name: str, column: str, values: list[Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    table(tmp_path)
    (tmp_path / f"{name}.csv").unlink()
    plain = {
        "interactions": {"user_id": [1, 1, 1], "item_id": [1, 2, 3], "timestamp": [1, 2, 3]},
        "items": {"item_id": [1, 2, 3], "title": ["a", "b", "c"]},
    }
    pl.DataFrame({**plain[name], column: values}).write_parquet(tmp_path / f"{name}.parquet")
    said = rf"{name}\.parquet: the column '{column}' is of type \w+.*; .* (is|are) "
    with pytest.raises(DataError, match=said):
        load(DataConfig.model_validate({"source": str(tmp_path), **settings}))


def test_parquet_without_times(tmp_path: Path) -> None:
    table(tmp_path)
    (tmp_path / "interactions.csv").unlink()
    pl.DataFrame(
        {"user_id": [1, 1, 1], "item_id": [1, 2, 3], "timestamp": [1.0, None, 3.0]}
    ).write_parquet(tmp_path / "interactions.parquet")
    with pytest.raises(DataError, match="row 2 has an empty timestamp"):
        load(DataConfig(source=str(tmp_path)))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"interactions": "other.csv"}, r"other.csv does not exist"),
        ({"interactions": "other.txt"}, r"other.txt must end in one of"),
        ({"columns": {"text": ["plots"]}}, "has no column 'plots'"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    config = DataConfig.model_validate({"source": str(table(tmp_path))} | settings)
    with pytest.raises(DataError, match=sentence):
        load(config)


def test_ratings_that_are_nowhere(tmp_path: Path) -> None:
    change("interactions.csv", "rating", "mood")(table(tmp_path))
    with pytest.raises(DataError, match=r"name their column in columns\.rating"):
        load(DataConfig(source=str(tmp_path), min_rating=3.0))


def test_rating_absent(tmp_path: Path) -> None:
    change("interactions.csv", "8,1,5,10", "8,1,,10")(table(tmp_path))
    values = {"source": str(tmp_path), "columns": {"rating": "rating"}}
    assert load(DataConfig.model_validate(values)).n_users == 2  # ratings play no part
    with pytest.raises(DataError, match=r"row 2: no rating \(1 such rows\)"):
        load(DataConfig.model_validate(values | {"min_rating": 2.0}))


def test_nothing_left(tmp_path: Path) -> None:
    values = {"source": str(table(tmp_path)), "columns": {"rating": "rating"}, "min_rating": 9.0}
    with pytest.raises(DataError, match=r"no interaction of .* is left after cleaning"):
        load(DataConfig.model_validate(values))


def test_kept_instead_of_refused(tmp_path: Path) -> None:
    change("interactions.csv", "8,1,5,10", "8,99,5,10")(table(tmp_path))
    change("items.csv", '"Moss (2030)",Loud', ",")(tmp_path)
    config = DataConfig(source=str(tmp_path), unknown_items="drop", empty_text="keep")
    data = load(config)
    assert data.counts["unknown_items_dropped"] == 1
    assert data.counts["items_without_text"] == 1
    assert data.catalogue.texts[data.catalogue.ids.index("3")] == ""


def test_two_candidates(tmp_path: Path) -> None:
    table(tmp_path)
    (tmp_path / "items.tsv").write_text("item_id\ttitle\n1\tx\n")
    with pytest.raises(DataError, match=r"must hold one items file .* not items.csv, items.tsv"):
        load(DataConfig(source=str(tmp_path)))
