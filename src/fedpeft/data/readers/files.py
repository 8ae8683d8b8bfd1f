"""What the readers share: bytes, delimited text, numbers, ids and joined texts."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl

from fedpeft.data.raw import first_row
from fedpeft.errors import DataError


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is read into one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a complete gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _open(path: Path) -> BinaryIO:
    """Open a file for reading bytes, decompressed if it ends in ``.gz``."""
    return cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else path.open("rb"))


def content(path: Path) -> bytes:
    """Return the bytes of a file, decompressed if it ends in ``.gz``."""
    with _reading(path), _open(path) as stream:
        data = stream.read()
    if not data.strip():
        raise DataError(f"{path} is empty")
    return data


def lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line) of every line that is not blank, without loading all."""
    empty = True
    with _reading(path), _open(path) as stream:
        for number, raw in enumerate(stream, 1):
            try:
                line = raw.rstrip(b"\r\n").decode(encoding)
            except UnicodeDecodeError:
                raise DataError(f"{path}, line {number} is not valid {encoding}") from None
            if line.strip():
                empty = False
                yield number, line
    if empty:
        raise DataError(f"{path} is empty")


def fields(path: Path, separator: str, count: int, encoding: str) -> list[list[str]]:
    """Split every line into exactly `count` fields; for small files without quoting."""
    rows = []
    for number, line in lines(path, encoding):
        row = line.split(separator)
        if len(row) != count:
            raise DataError(
                f"{path}, line {number} has {len(row)} fields separated by {separator!r}, "
                f"but {count} are expected"
            )
        rows.append(row)
    return rows


def delimited(
    path: Path, data: bytes, *, separator: str, header: Sequence[str] = ()
) -> pl.DataFrame:
    """Parse delimited UTF-8 text with every column as String; an empty field is null.

    Parameters
    ----------
    path
        Where `data` was read, for messages.
    header
        Column names of a file without a header line, whose fields are never quoted; empty: the
        first line names the columns and fields may be quoted.
    """
    if data.endswith((b"\n\n", b"\r\n\r\n")):
        data = data.rstrip(b"\r\n")
    quote = None if header else '"'
    try:
        table = pl.read_csv(
            data,
            separator=separator,
            has_header=not header,
            new_columns=list(header) or None,
            quote_char=quote,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError as error:
        _locate(path, data, separator, len(header))
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a well-formed delimited text file: {reason}") from None
    ragged = table.width < len(header) or (
        # a row that is too short ends in a null, and so does a row whose last field is empty
        table.width > 0 and table.height > 0 and table.to_series(-1).null_count() > 0
    )
    if ragged:
        _locate(path, data, separator, len(header))
    return table


def _locate(path: Path, data: bytes, separator: str, width: int) -> None:
    """Raise with the line of the first field count or encoding that is wrong, if there is one."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line} is not valid UTF-8") from None
    stream = io.StringIO(text, newline="")
    rows = csv.reader(
        stream, delimiter=separator, quoting=csv.QUOTE_NONE if width else csv.QUOTE_MINIMAL
    )
    try:
        for row in rows:
            width = width or len(row)
            if len(row) != width:
                raise DataError(
                    f"{path}, line {rows.line_num} has {len(row)} fields separated by "
                    f"{separator!r}, but {width} are expected"
                )
    except csv.Error:  # this module limits the length of a field, which is no fault of the file
        return


def require(table: pl.DataFrame, columns: Iterable[str], path: Path) -> None:
    """Check that the table has these columns, and that one value of theirs is one value."""
    for column in columns:
        if column not in table.columns:
            raise DataError(
                f"{path} has no column {column!r}; its columns are {', '.join(table.columns)}"
            )
        dtype = table.schema[column]
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
            raise DataError(
                f"{path}: the column {column!r} is of type {dtype}; text, numbers and dates are "
                "allowed"
            )


def numbers(table: pl.DataFrame, column: str, path: Path, *, optional: bool = False) -> pl.Series:
    """Return a column as Int64 if every value is whole, else Float64; dates as Int64.

    `optional` lets absent values pass as nulls.
    """
    values = table[column]
    if values.dtype.is_temporal():
        values = values.to_physical()
    parsed = values.cast(pl.Int64, strict=False) if not values.dtype.is_float() else values
    if parsed.null_count() > values.null_count():
        parsed = values.cast(pl.Float64, strict=False)
    wrong = parsed.is_null() & values.is_not_null()
    if parsed.dtype.is_float():
        wrong |= parsed.is_infinite().fill_null(False)
    if wrong.any():
        row = first_row(wrong)
        raise DataError(f"{path}, row {row}: {column} = {values[row - 1]!r} is not a number")
    if not optional and parsed.null_count():
        raise DataError(f"{path}, row {first_row(parsed.is_null())} has an empty {column}")
    return parsed


def joined(table: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Join text columns into one sentence-like text per row, leaving empty fields out.

    Lists written with ``|`` become comma-separated, because encoders read prose.
    """
    if not columns:
        return pl.Series("text", [""] * table.height)
    parts = [
        pl.col(column)
        .cast(pl.String)
        .str.replace_all("|", ", ", literal=True)
        .str.strip_chars()
        .str.strip_chars_end(".")
        .replace("", None)
        for column in columns
    ]
    return table.select(text=pl.concat_str(parts, separator=". ", ignore_nulls=True)).to_series()
