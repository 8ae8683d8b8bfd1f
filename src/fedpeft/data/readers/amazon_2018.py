"""Amazon Reviews 2018: 5-core reviews and metadata as JSON lines.

Source: J. Ni, J. Li, J. McAuley, "Justifying recommendations using distantly-labeled reviews and
fine-grained aspects", EMNLP 2019.
"""

from __future__ import annotations

import html
import re
from array import array
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from fedpeft.data.config import DataConfig
from fedpeft.data.raw import RawTables
from fedpeft.data.readers import readers
from fedpeft.data.readers.json_lines import records
from fedpeft.data.values import Table, joined
from fedpeft.errors import DataError

_TAG = re.compile(r"<[^>]*>")


class Amazon2018Reader:
    """Reads reviews as interactions; items without metadata are dropped by default.

    A text is title, brand, categories and description, without HTML.  The metadata repeat some
    items; the first stays and the rest is counted.
    """

    expects: ClassVar[str] = "one reviews file (*_5.json.gz or *.json.gz) and one meta_*.json.gz"
    settings: ClassVar[frozenset[str]] = frozenset()
    ending: ClassVar[str] = ".json"
    keys: ClassVar[dict[str, str]] = {
        "user": "reviewerID",
        "item": "asin",
        "timestamp": "unixReviewTime",
        "rating": "overall",
    }
    """Keys of a review; the one of the item is that of the metadata, too."""

    def __init__(self, config: DataConfig) -> None:
        del config  # the format leaves nothing to choose

    def recognises(self, folder: Path) -> bool:
        """Return whether there are metadata and reviews."""
        return all(self._named(folder, meta=meta) for meta in (True, False))

    def read(self, folder: Path) -> RawTables:
        """Read both files, line by line."""
        reviews_path = self._only(folder, meta=False)
        meta_path = self._only(folder, meta=True)
        items, repeated = self._items(meta_path)
        return RawTables(
            name=folder.name,
            interactions=self._reviews(reviews_path),
            items=items,
            interactions_path=reviews_path,
            items_path=meta_path,
            unknown_items="drop",
            counts={"repeated_items_dropped": repeated},
        )

    def attributes(self, record: dict[str, Any]) -> dict[str, str]:
        """Return the texts of an item by name, its title first, from its line of metadata."""
        title = plain(record.get("title"))
        return {
            "title": "" if "getTime" in title else title,  # some hold a page's script instead
            "brand": plain(record.get("brand")),
            "categories": plain(record.get("category", record.get("categories"))),
            "description": plain(record.get("description"), " "),
        }

    def _named(self, folder: Path, *, meta: bool) -> list[Path]:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.name.lower().removesuffix(".gz").endswith(self.ending)
            and path.name.startswith("meta_") == meta
        )
        core = [path for path in found if "_5.json" in path.name]
        return core if core and not meta else found

    def _only(self, folder: Path, *, meta: bool) -> Path:
        found = self._named(folder, meta=meta)
        if len(found) != 1:
            there = ", ".join(path.name for path in found) or "none"
            kind = f"meta_*{self.ending}.gz" if meta else "reviews"
            raise DataError(f"{folder} must hold one {kind} file, not {there}")
        return found[0]

    def _reviews(self, path: Path) -> pl.DataFrame:
        lines = array("q")
        rows = []
        for line, record in records(path, self.keys.values()):
            lines.append(line)
            rows.append(tuple(str(record[key]) for key in self.keys.values()))
        schema = dict.fromkeys(self.keys.values(), pl.String)
        table = Table(path, pl.DataFrame(rows, schema=schema, orient="row"), lines)
        return pl.DataFrame(
            {
                "user": table.frame[self.keys["user"]],
                "item": table.frame[self.keys["item"]],
                "timestamp": table.numbers(self.keys["timestamp"]),
                "rating": table.numbers(self.keys["rating"]).cast(pl.Float64),
            }
        )

    def _items(self, path: Path) -> tuple[pl.DataFrame, int]:
        """Return the items table and the number of repeated items left out."""
        key = self.keys["item"]
        rows: dict[str, dict[str, str]] = {}
        repeated = 0
        for _, record in records(path, (key,)):
            item = str(record[key])
            repeated += item in rows
            rows.setdefault(item, {"id": item} | self.attributes(record))
        table = pl.DataFrame(list(rows.values()))
        title = pl.when(pl.col("title") == "").then("id").otherwise("title")
        return table.select("id", title=title, text=joined(table, table.columns[1:])), repeated


def plain(value: Any, separator: str = ", ") -> str:
    """Flatten strings and nested lists into text without HTML or runs of white space."""
    if isinstance(value, list):
        parts = (plain(part, separator) for part in value)
        return separator.join(part for part in parts if part)
    text = html.unescape(_TAG.sub(" ", value)) if isinstance(value, str) else ""
    return " ".join(text.split())


readers.register("amazon_2018", config=DataConfig, build=Amazon2018Reader)
