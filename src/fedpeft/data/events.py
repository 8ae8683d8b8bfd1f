"""Kinds of events: which of them count as interactions, and how much each weighs."""

from __future__ import annotations

import polars as pl

from fedpeft.data.config import DataConfig
from fedpeft.data.raw import RawTables
from fedpeft.errors import DataError

_SHOWN = 12
"""Kinds of events that a message names."""


def check_events(raw: RawTables, config: DataConfig) -> None:
    """Raise `DataError` where the kinds that are to count are not in the interactions."""
    if not config.events:
        return
    if "event" not in raw.interactions.columns:
        raise DataError(
            f"data.events needs the kind of each interaction, which was not read from "
            f"{raw.interactions_path}; name its column in data.columns.event"
        )
    there = raw.interactions["event"].drop_nulls().unique().sort().to_list()
    unknown = sorted(set(config.events) - set(there))
    if unknown:
        shown = ", ".join(there[:_SHOWN]) + (", ..." if len(there) > _SHOWN else "")
        raise DataError(
            f"{raw.interactions_path}: no event is {unknown[0]!r}, which data.events names; there "
            f"are {shown}"
        )


def weigh(config: DataConfig, table: pl.DataFrame, counts: dict[str, int]) -> pl.DataFrame:
    """Return the interactions that count, with the weight of each in the column ``weight``."""
    if not config.events:
        return table
    weight = pl.col("event").replace_strict(config.events, default=None, return_dtype=pl.Float32)
    kept = table.with_columns(weight=weight).filter(pl.col("weight").is_not_null())
    counts["other_events_dropped"] = table.height - kept.height
    return kept
