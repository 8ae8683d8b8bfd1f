"""Delimited text: fields between separators, quoted or not; every record has every field.

Text without quotes is parsed by polars and counted.  Where a quote occurs, programs differ in what
they write and read, and one quote too many can swallow records.  So such text goes through the
strict parser of the standard library, and what could be read in two ways is refused with its line.
"""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

import polars as pl

from fedpeft.data.readers import files
from fedpeft.data.values import Table
from fedpeft.errors import DataError

_UNIT = "\x1f"  # stands for a separator of several characters, which parsers do not take
_BLOCK = 1 << 16  # rows held as Python lists at a time
_REMEDY = 'write a quote inside a field as "", or save the table as Parquet'


class _Refused(Exception):
    """Text that is not well-formed, with the line and the reason."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line, reason)
        self.line, self.reason = line, reason


def delimited(
    path: Path, separators: Sequence[str], *, header: Sequence[str] = (), quoted: bool = True
) -> Table:
    """Parse delimited UTF-8 text with every column as String; an empty field is null.

    Parameters
    ----------
    path
        The file, which may be gzipped.
    separators
        The first one that the first line holds separates the fields.
    header
        Column names of a file without a header line; empty: the first line names the columns.
    quoted
        Whether fields may be quoted with ``"``; a quote inside is ``""``, or ``\\"`` if that is the
        only way in which the file can be read.

    Raises
    ------
    DataError
        With file and line: other encodings, missing or surplus fields, blank lines, repeated
        column names, quotes that do not close or that can be read in two ways.
    """
    data = files.content(path)
    if not data[-2:].strip(b"\r\n"):
        data = data.rstrip(b"\r\n")  # blank lines at the end
    first = data.lstrip(b"\r\n").splitlines()[0]
    separator = next((s for s in separators if s.encode() in first), separators[0])
    shown = repr(separator)
    if len(separator) > 1:
        data, separator = data.replace(separator.encode(), _UNIT.encode()), _UNIT
    quoted = quoted and b'"' in data
    try:
        # the standard library takes a carriage return alone as the end of a line, polars does not
        if not quoted and data.count(b"\r") == data.count(b"\r\n"):
            table = _plain(path, data, separator, tuple(header))
            if table is not None:
                return table
        return _careful(path, files.decoded(path, data), separator, tuple(header), quoted)
    except _Refused as refusal:
        reason = refusal.reason.replace(repr(_UNIT), shown)
        raise DataError(f"{path}, line {refusal.line} {reason}") from None


def _plain(path: Path, data: bytes, separator: str, header: tuple[str, ...]) -> Table | None:
    """Parse text without quotes fast; None if it is not a rectangle of UTF-8 text."""
    count = data.count(b"\n") + (not data.endswith(b"\n"))
    first = data.partition(b"\n")[0].rstrip(b"\r").decode(errors="replace")
    names = header or _names(first.split(separator), 1)
    if data.count(separator.encode()) != count * (len(names) - 1):
        return None
    try:
        frame = pl.read_csv(
            data,
            separator=separator,
            has_header=False,
            skip_rows=0 if header else 1,
            quote_char=None,
            schema=dict.fromkeys(names, pl.String),
        )
    except pl.exceptions.PolarsError:
        return None
    lines = range(1 if header else 2, count + 1)
    # polars pads short lines with nulls and cuts some that are too long; as the separators are as
    # many as they must be, there is none of these without one of those
    whole = frame.height == len(lines) and not frame.to_series(-1).null_count()
    return Table(path, frame, lines) if whole else None


def _careful(path: Path, text: str, separator: str, header: tuple[str, ...], quoted: bool) -> Table:
    """Parse with the standard library, and with backslashes before quotes if there are any."""
    if not quoted:
        return _parse(path, text, separator, header, quoting=csv.QUOTE_NONE)[0]
    readings: list[tuple[Table, array[int]]] = []
    refusals: list[_Refused] = []
    escaped = '\\"' in text
    for escape in (None, "\\") if escaped else (None,):
        # only a quote and a backslash can be escaped: all other backslashes are text
        once = re.sub(r'\\(["\\])?', lambda m: m[0] if m[1] else r"\\", text) if escape else text
        try:
            readings.append(_parse(path, once, separator, header, escapechar=escape))
        except _Refused as refusal:
            refusals.append(refusal)
    if not readings:  # the reading that came further is more likely what was meant
        raise max(refusals, key=lambda refusal: refusal.line)
    if len(readings) == 2 and not readings[0][0].frame.equals(readings[1][0].frame):
        line = text.count("\n", 0, text.index('\\"')) + 1
        raise _Refused(line, rf"holds \", which can be read in two ways; {_REMEDY}")
    table, bounds = readings[0]
    _check_not_swallowed(text, separator, table.frame.width, bounds)
    return table


def _parse(
    path: Path,
    text: str,
    separator: str,
    names: tuple[str, ...],
    *,
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL,
    escapechar: str | None = None,
) -> tuple[Table, array[int]]:
    """Return the table, and the line where each record starts and where the last one has ended."""
    rows = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        quoting=quoting,
        escapechar=escapechar,
        strict=True,
    )
    starts = array("q")
    blocks: list[pl.DataFrame] = []
    block: list[list[str]] = []
    line = 1  # where the record to be read begins
    try:
        for row in rows:
            if not names:
                names = _names(row, line) if row else ()
            elif len(row) != len(names):
                fields = "is blank" if not row else f"has {len(row)} fields"
                raise _Refused(
                    line, f"{fields}; {len(names)} fields separated by {separator!r} are expected"
                )
            else:
                block.append(row)
                starts.append(line)
                if len(block) == _BLOCK:
                    blocks.append(_frame(block, names))
                    block = []
            line = rows.line_num + 1
    except csv.Error as error:
        raise _Refused(line, f"{_reason(error)}; {_REMEDY}") from None
    blocks.append(_frame(block, names))
    table = Table(path, pl.concat(blocks, rechunk=True), starts)
    return table, starts + array("q", [line])


def _names(row: Sequence[str], line: int) -> tuple[str, ...]:
    """Return the names of a header line; a column without one gets its number."""
    names = [name.strip() or f"column {place}" for place, name in enumerate(row, 1)]
    again = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if again is not None:
        raise _Refused(
            line, f"names two columns {again!r}; it must name each column, and none twice"
        )
    return tuple(names)


def _frame(rows: list[list[str]], names: Sequence[str]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return frame.with_columns(pl.all().replace("", None))


def _reason(error: csv.Error) -> str:
    said = str(error)
    if "unexpected end" in said:
        return "opens a quoted field that never ends"
    if "limit" in said:
        return f"holds a field of more than {csv.field_size_limit()} characters"
    return "holds a quoted field that goes on after its closing quote"


def _check_not_swallowed(text: str, separator: str, width: int, bounds: Sequence[int]) -> None:
    """Refuse records over several lines if most of these lines look like records themselves.

    Two bare quotes at the edges of two fields make one field of all that lies between.  Real text
    of several lines seldom has the right number of separators in most of its lines.
    """
    if width < 2 or bounds[-1] - bounds[0] == len(bounds) - 1:
        return
    inside = alike = first = 0
    stream = io.StringIO(text, newline="")
    for start, stop in _spans(bounds):
        record = list(islice(stream, stop - start))
        if start >= bounds[0] and len(record) > 1:
            whole = sum(line.count(separator) == width - 1 for line in record)
            inside, alike = inside + len(record), alike + whole
            first = first or start
    if 2 * alike > inside:
        raise _Refused(
            first, f"begins a quoted field of several lines that look like records; {_REMEDY}"
        )


def _spans(bounds: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the lines before the first record, then those of each."""
    yield 1, bounds[0]
    yield from pairwise(bounds)
