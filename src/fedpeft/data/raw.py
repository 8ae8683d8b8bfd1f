"""What a reader returns: plain tables, before any cleaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        Columns ``user`` and ``item`` (String); ``timestamp`` (integer or float), absent if there
        are no times; ``position`` (the same), absent if the rows are in file order; ``rating``
        (Float64) and ``event`` (String), absent if there is none.
    items
        Columns ``id``, ``title``, ``text`` (String).  In file order.  None: there is no file of
        items, and nothing but their ids is known.
    interactions_path, items_path
        Where they were read, for messages.
    unknown_items
        What the format calls for when an interaction's item is not among the items.
    counts
        What the reader itself dropped.
    notes
        Sentences on what was found that whoever uses the data should know.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame | None
    interactions_path: Path
    items_path: Path
    unknown_items: Literal["error", "drop"] = "error"
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def first_row(mask: pl.Series) -> int:
    """Return the row number, counted from 1 below the header, of the first true value."""
    return int(mask.arg_max() or 0) + 1
