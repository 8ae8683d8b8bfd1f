"""From tables with a user's own column names to those that cleaning works on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from fedpeft.data.config import ColumnsConfig, DataConfig
from fedpeft.data.readers import files
from fedpeft.errors import DataError

_NAMES = {
    "user": """
        userid user uid username customerid customer clientid client reviewerid reviewer
        visitorid visitor memberid member accountid
    """,
    "item": """
        itemid item iid movieid movie productid product articleid article asin parentasin sku
        isbn bookid book trackid track songid song artistid businessid gameid videoid
    """,
    "timestamp": """
        timestamp time date datetime ts unixtime unixreviewtime reviewtime eventtime createdat
        purchasedat orderedat ratedat
    """,
    "rating": "rating ratings stars star starrating score overall",
    "event": """
        event eventtype eventname action actiontype behavior behaviour behaviortype
        interactiontype
    """,
    "title": "title name itemname producttitle productname movietitle",
}
USUAL: Mapping[str, frozenset[str]] = {
    key: frozenset(names.split()) for key, names in _NAMES.items()
}
"""Names that columns usually have, in lower case and without signs."""


def interactions_of(
    table: pl.DataFrame, config: DataConfig, path: Path
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return a table of interactions as `RawTables` has them, and a note on what is left out.

    Raises
    ------
    DataError
        If a column is missing, may be one of several, or holds what it cannot.
    """
    names = config.columns
    user, item = _needed("user", names, table, path), _needed("item", names, table, path)
    found = {"user": table[user].cast(pl.String), "item": table[item].cast(pl.String)}
    used = {user, item}
    if config.order == "time" and (time := _column("timestamp", names, table, path)):
        used.add(time)
        found["timestamp"] = files.numbers(table, time, path)
    if names.position:
        files.require(table, [names.position], path)
        used.add(names.position)
        found["position"] = files.numbers(table, names.position, path)
    rated = names.rating or config.min_rating is not None
    if rated and (rating := _column("rating", names, table, path)):
        used.add(rating)
        found["rating"] = files.numbers(table, rating, path, optional=True).cast(pl.Float64)
    if (config.events or names.event) and (event := _column("event", names, table, path)):
        used.add(event)
        found["event"] = table[event].cast(pl.String)
    return pl.DataFrame(found), _left([name for name in table.columns if name not in used], path)


def _left(columns: list[str], path: Path) -> tuple[str, ...]:
    """Return a note on the columns that are left out, if there are any."""
    if not columns:
        return ()
    note = f"columns of {path.name} that play no part: {', '.join(columns)}"
    if any(_plain(column) in USUAL["event"] for column in columns):
        note += "; a table [data.events] would say which events count, and how much"
    return (note,)


def items_of(table: pl.DataFrame, config: DataConfig, path: Path) -> pl.DataFrame:
    """Return a table of items as `RawTables` has them; raises as `interactions_of`."""
    names = config.columns
    item, title = _needed("item", names, table, path, "id"), _column("title", names, table, path)
    files.require(table, names.text, path)
    text = names.text or [
        name
        for name, dtype in table.schema.items()
        if name != item and isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    ]
    ids = table[item].cast(pl.String)
    titles = ids if title is None else table[title].cast(pl.String)
    return pl.DataFrame(
        {
            "id": ids,
            "title": pl.select(pl.coalesce(titles, ids)).to_series(),
            "text": files.joined(table, text),
        }
    )


def _needed(key: str, names: ColumnsConfig, table: pl.DataFrame, path: Path, *more: str) -> str:
    """Return the name of a column that must be there; `more` are usual in this kind of table."""
    found = _column(key, names, table, path, *more)
    if found is None:
        raise DataError(
            f"{path} has no column {getattr(names, key)!r}, nor another usual name of the {key}; "
            f"its columns are {', '.join(table.columns)}; name one in data.columns.{key}"
        )
    return found


def _column(
    key: str, names: ColumnsConfig, table: pl.DataFrame, path: Path, *more: str
) -> str | None:
    """Return the name that a column has in a table; None where it has none and may do so."""
    name = getattr(names, key)
    default = ColumnsConfig.model_fields[key].default
    if not name and default:  # none is meant
        return None
    if name != default or name in table.columns:
        files.require(table, [name], path)
        return str(name)
    usual = [column for column in table.columns if _plain(column) in USUAL[key] | set(more)]
    if len(usual) > 1:
        raise DataError(
            f"{path} has several columns that may be the {key}: {', '.join(usual)}; name one in "
            f"data.columns.{key}"
        )
    files.require(table, usual, path)
    return usual[0] if usual else None


def _plain(column: str) -> str:
    """Return a column's name in lower case, without signs."""
    return "".join(filter(str.isalnum, column.lower()))
