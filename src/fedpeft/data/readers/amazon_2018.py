"""Amazon Reviews 2018: 5-core reviews and metadata as JSON lines.

Source: J. Ni, J. Li, J. McAuley, "Justifying recommendations using distantly-labeled reviews and
fine-grained aspects", EMNLP 2019.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from fedpeft.data.config import DataConfig
from fedpeft.data.raw import RawTables
from fedpeft.data.readers import files, readers
from fedpeft.errors import DataError

_TAG = re.compile(r"<[^>]*>")


class Amazon2018Reader:
    """Reads reviews as interactions; items without metadata are dropped by default.

    A text is title, brand, categories and description, without HTML.  The metadata repeat some
    items; the first stays and the rest is counted.
    """

    expects: ClassVar[str] = "one reviews file (*_5.json.gz or *.json.gz) and one meta_*.json.gz"
    settings: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: DataConfig) -> None:
        del config  # the format leaves nothing to choose

    def recognises(self, folder: Path) -> bool:
        """Return whether there are metadata and reviews."""
        return bool(_named(folder, meta=True)) and bool(_named(folder, meta=False))

    def read(self, folder: Path) -> RawTables:
        """Read both files, line by line."""
        reviews_path = _only(folder, meta=False)
        meta_path = _only(folder, meta=True)
        items, repeated = _items(meta_path)
        return RawTables(
            name=folder.name,
            interactions=_reviews(reviews_path),
            items=items,
            interactions_path=reviews_path,
            items_path=meta_path,
            unknown_items="drop",
            counts={"repeated_items_dropped": repeated},
        )


def _named(folder: Path, *, meta: bool) -> list[Path]:
    found = sorted(
        path
        for path in folder.iterdir()
        if path.name.endswith((".json", ".json.gz")) and path.name.startswith("meta_") == meta
    )
    core = [path for path in found if "_5.json" in path.name]
    return core if core and not meta else found


def _only(folder: Path, *, meta: bool) -> Path:
    found = _named(folder, meta=meta)
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        kind = "meta_*.json.gz" if meta else "reviews"
        raise DataError(f"{folder} must hold one {kind} file, not {there}")
    return found[0]


def _records(path: Path, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield the JSON object of every line; each must have these keys."""
    for number, line in files.lines(path, "utf-8"):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number} is not JSON: {error.msg}") from None
        if not isinstance(record, dict):
            raise DataError(f"{path}, line {number} is not a JSON object")
        for key in keys:
            if record.get(key) in (None, ""):
                raise DataError(f"{path}, line {number} has no {key!r}")
        yield record


def _reviews(path: Path) -> pl.DataFrame:
    keys = ("reviewerID", "asin", "unixReviewTime", "overall")
    rows = [tuple(str(record[key]) for key in keys) for record in _records(path, keys)]
    table = pl.DataFrame(rows, schema=dict.fromkeys(keys, pl.String), orient="row")
    return table.select(
        user="reviewerID",
        item="asin",
        timestamp=files.numbers(table, "unixReviewTime", path),
        rating=files.numbers(table, "overall", path).cast(pl.Float64),
    )


def _items(path: Path) -> tuple[pl.DataFrame, int]:
    """Return the items table and the number of repeated items left out."""
    rows: dict[str, tuple[str, ...]] = {}
    repeated = 0
    for record in _records(path, ("asin",)):
        repeated += record["asin"] in rows
        rows.setdefault(record["asin"], _attributes(record))
    columns = ("id", "title", "brand", "categories", "description")
    table = pl.DataFrame(
        [(asin, *values) for asin, values in rows.items()],
        schema=dict.fromkeys(columns, pl.String),
        orient="row",
    )
    title = pl.when(pl.col("title") == "").then("id").otherwise("title")
    return table.select("id", title=title, text=files.joined(table, columns[1:])), repeated


def _attributes(record: dict[str, Any]) -> tuple[str, str, str, str]:
    title = _plain(record.get("title"))
    return (
        "" if "getTime" in title else title,  # some titles hold a page's script instead
        _plain(record.get("brand")),
        _plain(record.get("category", record.get("categories"))),
        _plain(record.get("description"), " "),
    )


def _plain(value: Any, separator: str = ", ") -> str:
    """Flatten strings and nested lists into text without HTML or runs of white space."""
    if isinstance(value, list):
        parts = (_plain(part, separator) for part in value)
        return separator.join(part for part in parts if part)
    text = html.unescape(_TAG.sub(" ", value)) if isinstance(value, str) else ""
    return " ".join(text.split())


readers.register("amazon_2018", config=DataConfig, build=Amazon2018Reader)
