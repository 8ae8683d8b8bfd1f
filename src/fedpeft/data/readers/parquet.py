"""Parquet: one file, or a folder of parts as Spark writes it."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import polars as pl

from fedpeft.data.values import Table, is_text, require
from fedpeft.errors import DataError

# Zones such as +05:30 are no names of the zone database, at which polars would panic.  What is
# stored is UTC whatever the zone, so nothing hangs on them.
os.environ.setdefault("POLARS_IGNORE_TIMEZONE_PARSE_ERROR", "1")


def parquet(path: Path, columns: Collection[str] | None, *, texts: bool = False) -> Table:
    """Read `columns` (None: all), and with `texts` those of text; others are not looked at.

    Raises
    ------
    DataError
        If the file is absent or damaged, or lacks one of `columns`.
    """
    parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not parts:
        raise DataError(f"{path} is a folder without Parquet files; partitions are not read")
    try:
        schema = pl.read_parquet_schema(parts[0])
        require(path, list(schema), columns or ())
        used = [
            name
            for name, dtype in schema.items()
            if columns is None or name in columns or (texts and is_text(dtype))
        ]
        frame = pl.read_parquet(parts, columns=used, glob=False, hive_partitioning=False)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{path} is not a readable Parquet file, or has a column of a type that is not known "
            f"here: {reason}"
        ) from None
    return Table(path, frame)
