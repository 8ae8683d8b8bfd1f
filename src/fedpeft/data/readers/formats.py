"""Tables in any format, chosen by the ending of the file's name."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fedpeft.data.readers.delimited import delimited
from fedpeft.data.readers.json_lines import json_lines
from fedpeft.data.readers.parquet import parquet
from fedpeft.data.values import Table
from fedpeft.errors import DataError

_SEPARATORS = {
    ".csv": (",", ";", "\t", "|"),
    ".tsv": ("\t", ",", ";", "|"),
    ".dat": ("::", "\t", ",", ";", "|"),
}
"""By ending; the first that the header line holds."""

_JSON = (".jsonl", ".ndjson", ".json")

ENDINGS = (*(f"{end}{gz}" for end in (*_SEPARATORS, *_JSON) for gz in ("", ".gz")), ".parquet")
"""In lower case; capitals do not matter."""

EXPECTED = f"{', '.join((*_SEPARATORS, *_JSON))}, each also as .gz, or .parquet"
"""The endings, for messages."""


def read_table(path: Path, columns: Collection[str] | None = None, *, texts: bool = False) -> Table:
    """Read a file that must have `columns` (None: read all) and, with `texts`, those of text.

    Other columns are read where the format reads whole lines.

    Raises
    ------
    DataError
        If the file is absent, malformed or without rows, or lacks one of `columns`.
    """
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    if ending == ".parquet":
        table = parquet(path, columns, texts=texts)
    elif ending in _JSON:
        table = json_lines(path, None if texts else columns)
    else:
        table = delimited(path, _SEPARATORS[ending])
    table.require(columns or ())
    if table.frame.height == 0:
        raise DataError(f"{path} has no rows")
    return table
