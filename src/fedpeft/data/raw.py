"""What a reader returns: plain tables, before any cleaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl


@dataclass(frozen=True, eq=False)
class RawTables:
    """A data set as it stands in its files.

    Attributes
    ----------
    name
        What the data set is called in reports.
    interactions
        Columns ``user`` and ``item`` (String); ``timestamp`` (integer or float), absent if the file
        is in time order; ``position`` (the same), absent if the rows are in file order; ``rating``
        (Float64), absent if there is none.
    items
        Columns ``id``, ``title``, ``text`` (String).  In file order.
    interactions_path, items_path
        Where they were read, for messages.
    unknown_items
        What the format calls for when an interaction's item is not among the items.
    counts
        What the reader itself dropped.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    interactions_path: Path
    items_path: Path
    unknown_items: Literal["error", "drop"] = "error"
    counts: Mapping[str, int] = field(default_factory=dict)


def first_row(mask: pl.Series) -> int:
    """Return the row number, counted from 1 below the header, of the first true value."""
    return int(mask.arg_max() or 0) + 1
