"""Data sets from tables in memory: polars, pandas, Arrow, or whatever speaks its interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from fedpeft.config import parse
from fedpeft.data.clean import clean
from fedpeft.data.columns import interactions_of, items_of
from fedpeft.data.config import DataConfig
from fedpeft.data.dataset import Dataset
from fedpeft.data.raw import RawTables
from fedpeft.data.values import Table
from fedpeft.errors import ConfigError, DataError


def from_tables(
    interactions: Any, items: Any = None, *, name: str = "tables", **settings: Any
) -> Dataset:
    """Clean tables that are in memory, as `load` cleans those in files.

    Parameters
    ----------
    interactions
        One row for each interaction: user, item, and if there are any time, rating and event.
        Columns have usual names, or those that ``columns`` says, a table as in `DataConfig`.
    items
        One row for each item: its id, and columns that describe it.  None: the catalogue is made
        of the ids.
    name
        What the data set is called.
    settings
        Other keys of `DataConfig`, such as ``min_rating=4`` or ``columns={"user": "who"}``.

    Notes
    -----
    A table is a polars, pandas or Arrow table, another object of the Arrow PyCapsule interface, or
    a mapping from names to columns.

    Raises
    ------
    DataError
        If one is no such table, or as `load`.
    ConfigError
        If a setting is unknown, out of range, or one of files.
    """
    for key in ("source", "reader", "interactions", "items_file", "synthetic"):
        if key in settings:
            raise ConfigError(f"data.{key} is a setting of files, and from_tables reads none")
    config = parse(DataConfig, {**settings, "source": name}, "data")
    path, items_path = Path("interactions"), Path("items")
    table, notes = interactions_of(_table(interactions, path), config)
    known = None if items is None else items_of(_table(items, items_path), config)
    raw = RawTables(name, table, known, path, items_path, notes=notes)
    return clean(raw, config)


def _table(given: Any, path: Path) -> Table:
    """Return what was given as a table; an Arrow one is not copied."""
    try:
        table = given.collect() if isinstance(given, pl.LazyFrame) else pl.DataFrame(given)
    except ImportError as error:
        raise DataError(f"{path}: {error}; a polars or an Arrow table needs no package") from None
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{path}: {type(given).__name__} is no table that can be read ({reason}); polars, "
            "pandas and Arrow tables are"
        ) from None
    if table.height == 0:
        raise DataError(f"{path} has no rows")
    return Table(path, table)
