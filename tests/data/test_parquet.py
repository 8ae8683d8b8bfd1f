"""Parquet as engines write it: every type is read as pyarrow reads it, or refused by name."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.data import DataConfig, load
from fedpeft.data.readers.parquet import parquet
from fedpeft.data.values import Table
from fedpeft.errors import DataError

from .folders import table

DAYS = [date(2030, 1, day) for day in (1, 2, 3)]
MOMENTS = [datetime(2030, 1, 1, 0, 0, second) for second in (1, 2, 3)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parquet") / "made.parquet"


def write(path: Path, values: Any, **options: Any) -> Table:
    """Write one column and read it."""
    pq.write_table(pa.table({"it": values}), path, **options)
    return parquet(path, ["it"])


IDS = {
    "int8": (pa.array([1, -2, 3], pa.int8()), ["1", "-2", "3"]),
    "uint64": (pa.array([1, 2**64 - 1], pa.uint64()), ["1", "18446744073709551615"]),
    "float of pandas": (pa.array([1.0, 2.0]), ["1", "2"]),
    "float16": (pa.array([1.0, 2.0], pa.float16()), ["1", "2"]),
    "float32": (pa.array([1.0, 2.0], pa.float32()), ["1", "2"]),
    "decimal": (pa.array([Decimal(7), Decimal(8)], pa.decimal128(38, 0)), ["7", "8"]),
    "decimal of 20 digits": (pa.array([Decimal(10**19)], pa.decimal128(20, 0)), [str(10**19)]),
    "whole decimals": (pa.array([Decimal("7.00")], pa.decimal128(9, 2)), ["7"]),
    "text": (pa.array(["a", " b", "07"]), ["a", " b", "07"]),
    "text of pandas": (pa.array(["1.0", "20.0"]), ["1", "20"]),
    "versions": (pa.array(["1.0", "1.1"]), ["1.0", "1.1"]),
    "large text": (pa.array(["a"], pa.large_string()), ["a"]),
    "text views": (pa.array(["a"], pa.string_view()), ["a"]),
    "categories": (pa.array(["b", "a", "b"]).dictionary_encode(), ["b", "a", "b"]),
    "categories of numbers": (pa.array([9, 7, 9]).dictionary_encode(), ["9", "7", "9"]),
}  # fmt: skip


@pytest.mark.parametrize("name", IDS)
def test_ids(name: str, path: Path) -> None:
    values, expected = IDS[name]
    assert write(path, values).ids("it").to_list() == expected


NO_IDS = {
    "fractions": pa.array([1.5, 2.0]),
    "digits lost": pa.array([float(2**53)]),
    "infinite": pa.array([math.inf]),
    "decimal fractions": pa.array([Decimal("7.50")], pa.decimal128(9, 2)),
    "truth": pa.array([True]),
    "dates": pa.array(DAYS),
    "moments": pa.array(MOMENTS),
    "durations": pa.array([timedelta(1)]),
    "bytes": pa.array([b"a"]),
    "fixed bytes": pa.array([b"a" * 16], pa.binary(16)),
    "lists": pa.array([["a"]]),
    "structures": pa.array([{"a": 1}]),
    "maps": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
}


@pytest.mark.parametrize("name", NO_IDS)
def test_no_ids(name: str, path: Path) -> None:
    with pytest.raises(
        DataError, match=r"made\.parquet: the column 'it' is of type \w+.*; ids are"
    ):
        write(path, NO_IDS[name]).ids("it")


@pytest.mark.parametrize(
    "values",
    [[1.0, math.nan], [1.0, None], [1, None], ["a", ""], ["a", " "], ["a", "nan"], ["a", "NULL"],
     ["a", None], ["a", "None"], ["a", "<NA>"], ["a", r"\N"]],
    ids=repr,
)  # fmt: skip
def test_absent_ids(values: list[Any], path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2: it.* is empty \(1 such rows\); leave such rows"):
        write(path, pa.array(values)).ids("it")
    with pytest.raises(DataError, match=r"row 1: it is empty \(2 such rows\)"):
        write(path, pa.nulls(2)).ids("it")


NUMBERS = {
    "decimal": (pa.array([Decimal("4.5"), Decimal("5.0")], pa.decimal128(3, 1)), [4.5, 5.0]),
    "wide decimal": (pa.array([Decimal("4.5")], pa.decimal128(38, 20)), [4.5]),
    "whole decimal": (pa.array([Decimal(4)], pa.decimal128(38, 0)), [4]),
    "truth": (pa.array([True, False, None]), [1, 0, None]),
    "unsigned": (pa.array([255, None], pa.uint8()), [255, None]),
    "half": (pa.array([4.5, math.nan], pa.float16()), [4.5, None]),
    "categories of text": (pa.array(["4.5", "3", ""]).dictionary_encode(), [4.5, 3, None]),
    "categories of numbers": (pa.array([4.5, 3.0]).dictionary_encode(), [4.5, 3.0]),
    "text": (pa.array([" 4", "null", None]), [4, None, None]),
    "nothing": (pa.nulls(2), [None, None]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name: str, path: Path) -> None:
    values, expected = NUMBERS[name]
    assert write(path, values).numbers("it", optional=True).to_list() == expected


@pytest.mark.parametrize(
    "values",
    [pa.array(DAYS), pa.array(MOMENTS), pa.array([timedelta(1)]), pa.array([time(1)]),
     pa.array([b"1"]), pa.array([[1.0]])],
    ids=lambda values: str(values.type),
)  # fmt: skip
def test_no_numbers(values: pa.Array, path: Path) -> None:
    with pytest.raises(DataError, match=r"the column 'it' is of type \w+.*; numbers are allowed"):
        write(path, values).numbers("it")


@pytest.mark.parametrize(
    ("values", "said"),
    [(pa.array([1.0, math.inf]), "it = inf is not"), (pa.array(["1", "4,5"]), "it = '4,5' is not"),
     (pa.array([1, 2**64 - 1], pa.uint64()), "is not"), (pa.array([1, None]), "has an empty it")],
)  # fmt: skip
def test_wrong_numbers(values: pa.Array, said: str, path: Path) -> None:
    with pytest.raises(DataError, match=f"row 2.*{said}"):
        write(path, values).numbers("it")


TIMES = {
    **{f"{unit} {zone}": pa.array(MOMENTS, pa.timestamp(unit, zone))
       for unit in ("s", "ms", "us", "ns")
       for zone in (None, "UTC", "Europe/Berlin", "+02:00", "-03:30", "Mars/Base")},
    "days": pa.array(DAYS, pa.date32()),
    "days in milliseconds": pa.array(DAYS, pa.date64()),
    "durations": pa.array([timedelta(1), timedelta(2), timedelta(2, 1)], pa.duration("ms")),
    "seconds": pa.array([1719200820, 1719200821, 1719200822]),
    "doubles": pa.array([1719200820.5, 1719200820.75, 1719200821.0]),
    "decimals": pa.array([Decimal("1.5"), Decimal("1.75"), Decimal("2.0")]),
    "unsigned": pa.array([1, 2, 3], pa.uint32()),
    "text": pa.array(["2030-01-01", "2030-01-02", "2030-01-03"]),
    "categories": pa.array(["2030-01-01", "2030-01-02", "2030-01-03"]).dictionary_encode(),
    "categories of dates": pa.array(DAYS).dictionary_encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", TIMES)
def test_times_keep_their_order(name: str, path: Path) -> None:
    found = write(path, TIMES[name].take(pa.array([2, 0, 1]))).times("it")
    assert found.dtype.is_integer() or found.dtype.is_float()
    assert found.arg_sort().to_list() == [1, 2, 0]


def test_times_of_old_engines(path: Path) -> None:
    values = pa.array([MOMENTS[1], MOMENTS[0]], pa.timestamp("ns"))
    found = write(path, values, use_deprecated_int96_timestamps=True).times("it")
    assert found[0] - found[1] == 10**9


@pytest.mark.parametrize(
    "values",
    [pa.array([time(1)]), pa.array([True]), pa.array([b"1"]), pa.array([{"a": 1}])],
    ids=lambda values: str(values.type),
)
def test_no_times(values: pa.Array, path: Path) -> None:
    with pytest.raises(DataError, match=r"the column 'it' is of type \w+.*; a time is"):
        write(path, values).times("it")


@pytest.mark.parametrize(
    "values",
    [pa.array([*DAYS, None]), pa.array([*MOMENTS, None]), pa.array([1.0, 2.0, 3.0, math.nan])],
)
def test_absent_times(values: pa.Array, path: Path) -> None:
    with pytest.raises(DataError, match=r"row 4 has an empty it \(1 such rows\)"):
        write(path, values).times("it")


WORDS = {
    "text": (pa.array(["a", None]), ["a", None]),
    "categories": (pa.array(["b", "a"]).dictionary_encode(), ["b", "a"]),
    "years of pandas": (pa.array([1999.0, math.nan]), ["1999", None]),
    "prices": (pa.array([Decimal("3.50"), None]), ["3.50", None]),
    "truth": (pa.array([True, False]), ["true", "false"]),
    "days": (pa.array(DAYS[:1]), ["2030-01-01"]),
    "zoned": (pa.array(MOMENTS[:1], pa.timestamp("s", "+05:30")), ["2030-01-01 00:00:01.000"]),
    "lists": (pa.array([["a", "b"], [], None, ["c", None]]), ["a, b", "", None, "c"]),
    "nothing": (pa.nulls(1), [None]),
}


@pytest.mark.parametrize("name", WORDS)
def test_words(name: str, path: Path) -> None:
    values, expected = WORDS[name]
    assert write(path, values).words("it").to_list() == expected


@pytest.mark.parametrize(
    "values",
    [pa.array([b"1"]), pa.array([[1]]), pa.array([{"a": 1}]), pa.array([time(1)]),
     pa.array([timedelta(1)])],
    ids=lambda values: str(values.type),
)  # fmt: skip
def test_no_words(values: pa.Array, path: Path) -> None:
    with pytest.raises(DataError, match=r"the column 'it' is of type \w+.*; text, numbers, dates"):
        write(path, values).words("it")


def test_columns_that_are_not_used_are_not_read(path: Path) -> None:
    other = pa.array(
        [[("a", {"b": [1]})]], pa.map_(pa.string(), pa.struct({"b": pa.list_(pa.int8())}))
    )
    pq.write_table(pa.table({"it": ["a"], "other": other, "more": ["b"]}), path)
    assert parquet(path, ["it"]).frame.columns == ["it"]
    assert parquet(path, ["it"], texts=True).frame.columns == ["it", "more"]
    with pytest.raises(DataError, match="no column 'id'; its columns are it, other, more"):
        parquet(path, ["id"])


def test_decimals_of_more_digits_than_polars_has(path: Path) -> None:
    with pytest.raises(
        DataError, match=r"made\.parquet .* a type that is not known here: precision"
    ):
        write(path, pa.array([Decimal("4.5")], pa.decimal256(50, 2)))


def test_two_columns_of_one_name(path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["it", "it"]), path)
    with pytest.raises(DataError, match=r"made\.parquet"):
        parquet(path, ["it"])


def test_a_folder_of_parts(tmp_path: Path) -> None:
    folder = tmp_path / "made.parquet"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for place, values in enumerate((["a", "b"], ["c"])):
        pq.write_table(pa.table({"it": values}), folder / f"part-0000{place}.snappy.parquet")
    assert parquet(folder, ["it"]).ids("it").to_list() == ["a", "b", "c"]
    (tmp_path / "none.parquet" / "day=1").mkdir(parents=True)
    with pytest.raises(DataError, match="is a folder without Parquet files"):
        parquet(tmp_path / "none.parquet", ["it"])


def test_ratings_of_a_database_count(tmp_path: Path) -> None:
    (table(tmp_path) / "interactions.csv").unlink()
    ratings = [Decimal("4.5"), Decimal("5.0"), Decimal("4.5"), Decimal("4.5")]
    columns = {
        "user_id": pa.array([7.0] * 4),
        "item_id": pa.array([1, 2, 3, 4], pa.uint32()),
        "timestamp": pa.array([*MOMENTS, MOMENTS[0]], pa.timestamp("us", "UTC")),
        "rating": pa.array(ratings, pa.decimal128(3, 1)),
    }
    pq.write_table(pa.table(columns), tmp_path / "Interactions.Parquet")
    values = {"source": str(tmp_path), "columns": {"rating": "rating"}, "min_rating": 4.5}
    data = load(DataConfig.model_validate(values))
    assert data.user_ids == ["7"]
    assert len(data.histories.items) == 4


# Whatever pyarrow holds: (type, values), with absent ones
def columns() -> st.SearchStrategy[tuple[pa.DataType, list[Any]]]:
    whole = st.integers(-(2**31), 2**31 - 1)
    decimals = st.decimals(-(10**6), 10**6, places=2)
    moments = st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1))
    kinds: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
        (pa.int32(), whole),
        (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
        (pa.uint64(), st.integers(0, 2**64 - 1)),
        (pa.float64(), st.floats() | whole.map(float)),
        (pa.float32(), st.floats(width=32)),
        (pa.decimal128(12, 2), decimals | whole.map(Decimal)),
        (pa.decimal128(20, 0), st.integers(-(10**20) + 1, 10**20 - 1).map(Decimal)),
        (pa.bool_(), st.booleans()),
        (pa.string(), st.text(max_size=4) | whole.map(str) | decimals.map(str)),
        (pa.string(), moments.map(str)),
        (pa.date32(), st.dates()),
        (pa.timestamp("us"), moments),
        (pa.timestamp("us", "UTC"), moments.map(lambda moment: moment.replace(tzinfo=UTC))),
        (pa.timestamp("ms"), moments.map(lambda moment: moment.replace(microsecond=0))),
        (pa.duration("us"), st.timedeltas(timedelta(-(10**6)), timedelta(10**6))),
        (pa.time64("us"), st.times()),
        (pa.binary(), st.binary(max_size=3)),
        (pa.list_(pa.string()), st.lists(st.text(max_size=2), max_size=2)),
    ]
    return st.sampled_from(kinds).flatmap(
        lambda kind: st.tuples(
            st.just(kind[0]), st.lists(kind[1] | st.none(), min_size=1, max_size=5)
        )
    )


def tried(made: Table, role: str) -> list[Any] | str:
    """Return what is read or, if nothing is, the sentence that says why, without the path."""
    try:
        return getattr(made, role)("it").to_list()
    except DataError as error:
        return str(error).removeprefix(str(made.path))


def absent(value: Any) -> bool:
    if isinstance(value, str):  # Python alone takes four control characters for white space
        return not value.strip() and not set(value) & set("\x1c\x1d\x1e\x1f")
    return value is None or value != value


@given(columns(), st.booleans())
def test_any_column_against_pyarrow(
    path: Path, column: tuple[pa.DataType, list[Any]], encoded: bool
) -> None:
    """Each role gives what pyarrow's values say, or an error that names file and column."""
    values = pa.array(column[1], column[0])
    plain = values.to_pylist()
    if encoded and not pa.types.is_nested(column[0]):
        values = values.dictionary_encode()
    made = write(path, values)
    for role, check in (("ids", check_ids), ("numbers", check_numbers), ("times", check_times)):
        found = tried(made, role)
        if isinstance(found, str):
            assert re.match(r"(: the column 'it' is of|, row \d+(:| has an empty) it) ", found)
        else:
            assert not any(absent(value) for value in plain)
            check(found, plain)
    if isinstance(plain[0], int | str):  # what is plain is never refused
        whole = not any(absent(value) or str(value).strip().lower() in NAMES for value in plain)
        assert not whole or isinstance(plain[0], bool) or made.ids("it").len() == len(plain)


NAMES = ("nan", "nat", "none", "null", "<na>", r"\n")


def check_ids(found: list[Any], plain: list[Any]) -> None:
    if not all(isinstance(value, str) for value in plain):
        assert found == [str(int(value)) for value in plain]
        assert all(value == int(value) for value in plain)
    elif found != plain:
        assert [f"{value}" for value in found] == [value.split(".")[0] for value in plain]
        assert all(float(value) == int(float(value)) for value in plain)


def check_numbers(found: list[Any], plain: list[Any]) -> None:
    assert [float(value) for value in found] == [float(value) for value in plain]
    if all(isinstance(value, int) for value in plain):
        assert found == [int(value) for value in plain]


def check_times(found: list[Any], plain: list[Any]) -> None:
    if isinstance(plain[0], str):
        try:
            plain = [float(value) for value in plain]
        except ValueError:
            plain = [datetime.fromisoformat(value.strip()) for value in plain]
    order = sorted(range(len(plain)), key=lambda place: plain[place])
    assert [found[place] for place in order] == sorted(found)
    assert len(set(found)) == len(set(plain))
