"""The history of someone who took no part, as a user hands it in."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from fedpeft.data.columns import column_of, needed_column
from fedpeft.data.config import ColumnsConfig
from fedpeft.data.readers import files
from fedpeft.data.readers.formats import ENDINGS, read_table
from fedpeft.errors import DataError


def read_history(text: str, columns: ColumnsConfig) -> list[str]:
    """Return item ids, oldest first.

    Parameters
    ----------
    text
        Ids with commas between them; or a file, with one id a line or, by its name, a table.
    columns
        Names of a table's columns.  It is read from top to bottom where it has no time.

    Raises
    ------
    DataError
        If a file cannot be read, or a table is of several users.
    """
    if not os.path.isfile(text):  # unlike pathlib's, it takes text of any length
        return [name for part in text.split(",") if (name := part.strip())]
    path = Path(text)
    if not path.name.lower().endswith(ENDINGS):
        return [line.strip() for _, line in files.lines(path)]
    table = read_table(path)
    items = pl.DataFrame({"item": table.ids(needed_column("item", columns, table))})
    user = column_of("user", columns, table)
    if user and (users := table.ids(user).n_unique()) > 1:
        raise DataError(f"{path} has the rows of {users} users; a history is of one")
    if time := column_of("timestamp", columns, table):
        items = items.with_columns(time=table.times(time, columns.time_format)).sort(
            "time", maintain_order=True
        )
    return items["item"].to_list()
