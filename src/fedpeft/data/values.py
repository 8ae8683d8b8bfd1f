"""A file's columns and what they may hold: ids, numbers, times and texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import polars as pl

from fedpeft.data.times import iso
from fedpeft.errors import DataError

_TEXT = (pl.String, pl.Categorical, pl.Enum)
_LISTS = (pl.List, pl.Array)
_ABSENT = ("", "nan", "NaN", "NAN", "null", "NULL", "None", "<NA>", "NaT", r"\N")
"""How programs write a value that is not there."""

EXACT = 2**53
"""Whole numbers from here on are not all doubles."""


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a file as its format has them, and where each row stands.

    Attributes
    ----------
    path
        The file, for messages.
    frame
        One row per record.
    lines
        The line of each row, from 1; None if the format has no lines.
    """

    path: Path
    frame: pl.DataFrame
    lines: Sequence[int] | None = None

    def where(self, row: int) -> str:
        """Name a row, counted from 0, as a user finds it in the file."""
        place = f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"
        return f"{self.path}, {place}"

    def require(self, columns: Iterable[str]) -> None:
        """Raise `DataError` if one of the columns is missing."""
        require(self.path, self.frame.columns, columns)

    def text_columns(self) -> list[str]:
        """Return the names of the columns that hold text or lists of text."""
        return [name for name, dtype in self.frame.schema.items() if is_text(dtype)]

    def ids(self, column: str) -> pl.Series:
        """Return a column of text or whole numbers as String.

        Numbers that a program wrote as 7.0, because others were missing, become 7.

        Raises
        ------
        DataError
            For another type, a fraction, a number that has lost digits, or an absent id.
        """
        values = _whole(self.frame[column])
        dtype = values.dtype
        if not isinstance(dtype, (*_TEXT, pl.Null)) and not dtype.is_integer():
            if dtype.is_float() or dtype.is_decimal():
                self._refuse(column, "ids are text or whole numbers of at most 15 digits as floats")
            self._refuse(column, "ids are text or whole numbers")
        values = values.cast(pl.String)
        absent = values.fill_null("").str.strip_chars().is_in(_ABSENT)
        if absent.any():
            row = int(absent.arg_max() or 0)
            written = f" ({values[row]})" if values[row] and values[row].strip() else ""
            raise DataError(
                f"{self.where(row)}: {column}{written} is empty ({int(absent.sum())} such rows); "
                "leave such rows out of the file"
            )
        if values.str.contains(r"^-?\d+\.0+$").all():
            values = values.str.replace(r"\.0+$", "")
        return values

    def numbers(self, column: str, *, optional: bool = False) -> pl.Series:
        """Return a column as Int64 if every value is whole, else Float64; true is 1.

        `optional` lets absent values pass as nulls.

        Raises
        ------
        DataError
            With the row of a value that is no finite number, or is absent.
        """
        values = self.frame[column]
        if not is_text(values.dtype, lists=False) and not _is_number(values.dtype):
            self._refuse(column, "numbers are allowed")
        parsed, wrong = _numbers(values)
        if wrong.any():
            row = int(wrong.arg_max() or 0)
            comma = re.fullmatch(r"-?[\d.]*\d,\d+", str(values[row]).strip())
            remedy = "; write a point, not a comma, before the decimals" if comma else ""
            raise DataError(
                f"{self.where(row)}: {column} = {values[row]!r} is not a number{remedy}"
            )
        if not optional:
            self._check_present(column, parsed)
        return parsed

    def times(self, column: str, form: str | None = None) -> pl.Series:
        """Return a column of times as Int64 or Float64 that sorts as the times do.

        Numbers, and text that holds numbers, stay what they are.  Dates and date-times, of Parquet
        or as ISO 8601 text, are counted from 1970 in a unit of the column's own.

        Parameters
        ----------
        form
            How text is written, as for `strptime`; None: as numbers or in ISO 8601.

        Raises
        ------
        DataError
            With the row of a time of another form, of an absent one, or of one without a time zone
            where others have one.
        """
        values = self.frame[column]
        if form is not None:
            return self._formed_times(column, values, form)
        if isinstance(values.dtype, pl.Date | pl.Datetime | pl.Duration):
            self._check_present(column, values)
            return values.to_physical().cast(pl.Int64)
        if not is_text(values.dtype, lists=False):
            if values.dtype == pl.Boolean or not _is_number(values.dtype):
                self._refuse(column, "a time is a number, a date, or ISO 8601 text")
            return self.numbers(column)
        parsed, no_number = _numbers(values)
        if no_number.any():
            parsed = self._iso_times(column, values, no_number)
        self._check_present(column, parsed)
        return parsed

    def words(self, column: str) -> pl.Series:
        """Return a column as String, null where there is nothing; lists become one text.

        Raises
        ------
        DataError
            If the column holds anything but text, numbers, dates, truth values or lists of text.
        """
        values = _whole(self.frame[column])
        dtype = values.dtype
        if isinstance(dtype, _LISTS) and is_text(dtype):
            return values.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
        plain = (pl.Boolean, pl.Date, pl.Datetime)
        if not is_text(dtype) and not _is_number(dtype) and not isinstance(dtype, plain):
            self._refuse(column, "text, numbers, dates and lists of text are allowed")
        if isinstance(dtype, pl.Datetime):  # in UTC: its zone may be none that polars knows
            values = values.to_physical().cast(pl.Datetime(dtype.time_unit))
        return values.cast(pl.String)

    def texts(self, columns: Sequence[str]) -> pl.Series:
        """Join columns into one text per row, as `joined` does."""
        frame = pl.DataFrame({column: self.words(column) for column in columns})
        return joined(frame, columns) if columns else pl.Series([""] * self.frame.height)

    def _formed_times(self, column: str, values: pl.Series, form: str) -> pl.Series:
        if not is_text(values.dtype, lists=False):
            self._refuse(column, "data.columns.time_format is for times that are written as text")
        texts = _clean_text(values)
        try:
            parsed = texts.str.to_datetime(form, time_unit="us", strict=False)
        except pl.exceptions.PolarsError:  # no such form
            parsed = pl.Series([None] * len(texts), dtype=pl.Datetime)
        foreign = parsed.is_null() & texts.is_not_null()
        if foreign.any():
            row = int(foreign.arg_max() or 0)
            raise DataError(
                f"{self.where(row)}: {column} = {values[row]!r} is not written as "
                f"data.columns.time_format = {form!r} says"
            )
        self._check_present(column, parsed)
        return parsed.to_physical().cast(pl.Int64)

    def _iso_times(self, column: str, values: pl.Series, no_number: pl.Series) -> pl.Series:
        texts = values.cast(pl.String).str.strip_chars()
        parsed, zoned = iso(texts).get_columns()
        foreign = parsed.is_null() & no_number
        if foreign.any():
            row = int(foreign.arg_max() or 0)
            raise DataError(
                f"{self.where(row)}: {column} = {values[row]!r} is neither a number nor a date of "
                "ISO 8601 such as 2024-06-24 or 2024-06-24T03:47:00Z; say how times are written in "
                'data.columns.time_format, such as "%d.%m.%Y %H:%M", or set '
                'data.columns.timestamp = "" to do without times'
            )
        present = _clean_text(values).is_not_null()
        for odd, reason in (
            (present & ~no_number, "is a number, but other rows hold dates"),
            (present & ~zoned, "has no time zone, but other rows have one"),
        ):
            if odd.any() and not (odd | ~present).all():
                row = int(odd.arg_max() or 0)
                raise DataError(
                    f"{self.where(row)}: {column} = {values[row]!r} {reason}; write all in one form"
                )
        return parsed

    def _check_present(self, column: str, values: pl.Series) -> None:
        if values.null_count():
            row = int(values.is_null().arg_max() or 0)
            raise DataError(
                f"{self.where(row)} has an empty {column} ({values.null_count()} such rows)"
            )

    def _refuse(self, column: str, allowed: str) -> NoReturn:
        dtype = self.frame.schema[column]
        raise DataError(f"{self.path}: the column {column!r} is of type {dtype}; {allowed}")


def require(path: Path, there: Sequence[str], columns: Iterable[str]) -> None:
    """Raise `DataError` if one of `columns` is not among those of a file."""
    for column in columns:
        if column not in there:
            raise DataError(f"{path} has no column {column!r}; its columns are {', '.join(there)}")


def joined(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Join String columns into one sentence-like text per row, leaving empty fields out.

    Lists written with ``|`` become comma-separated, because encoders read prose.
    """
    parts = [
        pl.col(column)
        .str.replace_all("|", ", ", literal=True)
        .str.strip_chars()
        .str.strip_chars_end(".")
        .replace("", None)
        for column in columns
    ]
    return frame.select(text=pl.concat_str(parts, separator=". ", ignore_nulls=True)).to_series()


def is_text(dtype: pl.DataType, *, lists: bool = True) -> bool:
    """Return whether values of this type are texts or, unless told otherwise, lists of texts."""
    if lists and isinstance(dtype, pl.List | pl.Array):
        return isinstance(dtype.inner, _TEXT)
    return isinstance(dtype, _TEXT)


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)


def _whole(values: pl.Series) -> pl.Series:
    """Write floats and decimals without decimals if all are whole and exact; NaN is absent."""
    if values.dtype.is_decimal():
        texts = values.cast(pl.String).str.replace(r"\.0+$", "")
        return values if texts.str.contains(".", literal=True).any() else texts
    if not values.dtype.is_float():
        return values
    values = values.fill_nan(None)
    exact = (values == values.round()) & (values.abs() < EXACT)
    return values.cast(pl.Int64) if exact.all() else values


def _clean_text(values: pl.Series) -> pl.Series:
    """Return texts without white space around them; null where nothing is there."""
    texts = values.cast(pl.String).str.strip_chars()
    return texts.set(texts.is_in(_ABSENT), None)


def _numbers(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return values as Int64 or Float64, null if absent, and which are no finite numbers."""
    dtype = values.dtype
    given = _clean_text(values) if isinstance(dtype, _TEXT) else values
    fraction = dtype.is_float() or (isinstance(dtype, pl.Decimal) and dtype.scale > 0)
    parsed = given.cast(pl.Float64 if fraction else pl.Int64, strict=False)
    if isinstance(dtype, _TEXT) and parsed.null_count() > given.null_count():
        parsed = given.cast(pl.Float64, strict=False)
    wrong = parsed.is_null() & given.is_not_null()
    if parsed.dtype.is_float():
        wrong |= parsed.is_infinite().fill_null(False)
        parsed = parsed.fill_nan(None)
    return parsed, wrong
