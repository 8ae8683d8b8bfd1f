"""Times as text: ISO 8601 is read as Python reads it, other forms are refused with the line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.data.values import Table
from fedpeft.errors import DataError

HERE = Path("made.csv")


def read(*values: str | None) -> list[int | float]:
    frame = pl.DataFrame({"when": values}, schema={"when": pl.String})
    return Table(HERE, frame, range(2, 2 + len(values))).times("when").to_list()


def test_forms_of_one_moment() -> None:
    forms = (
        "2024-06-24T03:47:00Z", "2024-06-24T03:47Z", "2024-06-24 03:47:00+00:00",
        "2024-06-24 05:47:00+02", "2024-06-24 05:47:00 +0200", "2024-06-24 03:47:00 UTC",
        "2024-06-23t18:47:00.000-09:00", " 2024-06-24T03:47:00,0z ", "2024-06-23 22:17:00-05:30",
    )  # fmt: skip
    assert set(read(*forms)) == {1_719_200_820_000_000}


def test_dates_times_and_decimals_sort() -> None:
    ordered = [
        "1965-02-03", "2024-06-24", "2024-06-24 00:00:00.000001", "2024-06-24T03:47",
        "2024-06-24 03:47:00.12", "2024-06-24 03:47:00.123", "2024-06-24 03:47:01",
    ]  # fmt: skip
    found = read(*ordered)
    assert found == sorted(set(found))
    nanoseconds = read("2024-06-24 03:47:00.123456789", "2024-06-24 03:47:00.12345679")
    assert nanoseconds[1] - nanoseconds[0] == 1
    assert read("9999-12-31", "0001-01-01")[0] == 253_402_214_400_000_000


def test_numbers_stay_numbers() -> None:
    assert read("1719200820", "1719200821") == [1719200820, 1719200821]
    assert read("1719200820000", " 7 ") == [1719200820000, 7]
    assert read("0.5", "2") == [0.5, 2.0]
    assert read("20240624", "20240625") == [20240624, 20240625]


@pytest.mark.parametrize(
    "form",
    [
        "24/06/2024 03:47", "06/24/24", "24.06.2024", "2024/06/24", "24 Jun 2024", "2024-6-24",
        "Mon Jun 24 03:47:00 2024", "2024-06", "2024-W26-1", "2024-02-30", "2024-06-24T25:00",
        "2024-06-24T03:60", "2024-06-24T03:47:00+24:00", "2024-06-24T03:47:00 CET", "yesterday",
        "2024-06-24T03", "2024-06-24T03:47:00.1234567890", "03:47", "2024-06-24T03:47:00Z[UTC]",
        "1,719,200,820",
    ],
)  # fmt: skip
def test_other_forms_are_refused(form: str) -> None:
    for others in (["2024-06-23"], ["2024-06-23T00:00Z"], ["1719200820"], []):
        with pytest.raises(DataError) as caught:
            read(*others, form)
        said = str(caught.value)
        assert said.startswith(f"made.csv, line {2 + len(others)}: when = {form!r} is neither")
        assert 'set data.columns.timestamp = ""' in said


def formed(form: str, *values: str | None) -> list[int]:
    frame = pl.DataFrame({"when": values}, schema={"when": pl.String})
    return Table(HERE, frame, range(2, 2 + len(values))).times("when", form).to_list()


def test_times_as_they_are_said_to_be_written() -> None:
    german = formed("%d.%m.%Y %H:%M", "25.01.2024 15:55", " 1.2.2024 3:04 ")
    assert german == read("2024-01-25T15:55", "2024-02-01T03:04")
    assert formed("%d.%m.%Y", "25.01.2024") == read("2024-01-25")
    assert formed("%d/%b/%Y:%H:%M:%S %z", "01/Feb/2024:10:00:00 +0200") == read("2024-02-01T08:00Z")


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M", "%q nonsense", "%"])
def test_times_that_are_not_written_so_are_refused(form: str) -> None:
    for wrong in ("2024-01-25", "31.02.2024 10:00", "x"):
        with pytest.raises(DataError, match=r"line 2: when = .* is not written as data\.columns"):
            formed(form, wrong)
    with pytest.raises(DataError, match=r"line 3 has an empty when"):
        formed("%d.%m.%Y %H:%M", "25.01.2024 15:55", None)
    numbers = Table(HERE, pl.DataFrame({"when": [1, 2]}), range(2, 4))
    with pytest.raises(DataError, match="for times that are written as text"):
        numbers.times("when", form)


def test_mixed_columns_are_refused() -> None:
    with pytest.raises(DataError, match=r"line 3: when = '1719200820' is a number, but other"):
        read("2024-06-24", "1719200820")
    with pytest.raises(DataError, match=r"line 2: when = '5' is a number, but other"):
        read("5", "2024-06-24T03:47:00Z")
    for naive in ("2024-06-24", "2024-06-24 03:47:00"):
        with pytest.raises(DataError, match=r"line 3: when = .* has no time zone, but other"):
            read("2024-06-24T03:47:00Z", naive)
    for nothing in (None, "", " ", "nan"):
        for other in ("2024-06-24", "2024-06-24T03:47:00Z", "5"):
            with pytest.raises(DataError, match=r"line 3 has an empty when \(1 such rows\)"):
                read(other, nothing)


def test_nanoseconds_reach_their_bounds() -> None:
    with pytest.raises(DataError, match="line 3: when = '9999-12-31' is neither"):
        read("2024-06-24 03:47:00.123456789", "9999-12-31")


ZONES = st.none() | st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31))


@given(st.lists(MOMENTS, min_size=1, max_size=5), ZONES, st.sampled_from("T "))
def test_against_python(moments: list[datetime], zone: timezone | None, separator: str) -> None:
    moments = [moment.replace(tzinfo=zone) for moment in moments]
    found = read(*(moment.isoformat(separator) for moment in moments))
    epoch = datetime(1970, 1, 1, tzinfo=zone and UTC)
    assert found == [(moment - epoch) // timedelta(microseconds=1) for moment in moments]


@given(st.text(st.sampled_from("0123456789-:T .Z+e"), max_size=24))
def test_any_text_against_python(text: str) -> None:
    """What is read is what Python makes of it, as a number or as a date."""
    try:
        found = read(text)
    except DataError:
        return
    try:
        assert found == [float(text)]
    except ValueError:
        moment = datetime.fromisoformat(text.strip())
        epoch = datetime(1970, 1, 1, tzinfo=moment.tzinfo and UTC)
        assert found[0] in {
            (moment - epoch) // timedelta(microseconds=1),
            (moment - epoch) // timedelta(microseconds=1) * 1000 + found[0] % 1000,
        }
