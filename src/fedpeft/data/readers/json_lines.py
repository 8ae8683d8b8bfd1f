"""JSON lines: one object per line."""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from fedpeft.data.readers import files
from fedpeft.data.values import EXACT, Table
from fedpeft.errors import DataError


def records(path: Path, keys: Collection[str] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of every line; each object must have a value at these keys."""
    for number, line in files.lines(path):
        try:
            record = json.loads(line)
            if "\\ud" in line.lower():
                json.dumps(record, ensure_ascii=False).encode()  # half of a pair has no UTF-8
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", str(error))
            raise DataError(f"{path}, line {number} is not JSON: {reason}") from None
        if not isinstance(record, dict):
            raise DataError(f"{path}, line {number} is not a JSON object; each line must hold one")
        for key in keys:
            if record.get(key) in (None, ""):
                raise DataError(f"{path}, line {number} has no {key!r}")
        yield number, record


def json_lines(path: Path, wanted: Collection[str] | None = None) -> Table:
    """Read the `wanted` keys (None: all) as columns; a key that a line lacks is null there."""
    columns: dict[str, list[Any]] = {}
    lines = array("q")
    for number, record in records(path):
        for key in record:
            if key not in columns and (wanted is None or key in wanted):
                columns[key] = [None] * len(lines)
        for key, values in columns.items():
            values.append(record.get(key))
        lines.append(number)
    return Table(path, pl.DataFrame([_series(*column) for column in columns.items()]), lines)


def _series(name: str, values: list[Any]) -> pl.Series:
    """Make a column of the one type that all values have; numbers beside text become text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {list} and all(isinstance(part, str) for value in values for part in value or ()):
        return pl.Series(name, values, dtype=pl.List(pl.String))
    if kinds in ({bool}, {float}):
        return pl.Series(name, values)
    if kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):
        return pl.Series(name, values, dtype=pl.Int64)
    if kinds == {int, float} and not any(abs(value or 0) >= EXACT for value in values):
        return pl.Series(name, values, dtype=pl.Float64, strict=False)
    if kinds <= {int, float, str}:
        texts = [value if value is None else str(value) for value in values]
        return pl.Series(name, texts, dtype=pl.String)
    return pl.Series(name, values, dtype=pl.Object)
