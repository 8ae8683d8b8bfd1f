"""From tables with a user's own column names to those that cleaning works on."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from fedpeft.data.config import ColumnsConfig, DataConfig
from fedpeft.data.values import Table
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


def interactions_of(table: Table, config: DataConfig) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return a table of interactions as `RawTables` has them, and a note on what is left out.

    Raises
    ------
    DataError
        If a column is missing, may be one of several, or holds what it cannot.
    """
    names = config.columns
    user, item = needed_column("user", names, table), needed_column("item", names, table)
    found = {"user": table.ids(user), "item": table.ids(item)}
    used = {user, item}
    if config.order == "time" and (time := column_of("timestamp", names, table)):
        used.add(time)
        found["timestamp"] = table.times(time, names.time_format)
    if names.position:
        table.require([names.position])
        used.add(names.position)
        found["position"] = table.numbers(names.position)
    rated = names.rating or config.min_rating is not None
    if rated and (rating := column_of("rating", names, table)):
        used.add(rating)
        found["rating"] = table.numbers(rating, optional=True).cast(pl.Float64)
    if (config.events or names.event) and (event := column_of("event", names, table)):
        used.add(event)
        found["event"] = table.words(event)
    unused = [name for name in table.frame.columns if name not in used]
    return pl.DataFrame(found), _left(unused, table)


def _left(columns: list[str], table: Table) -> tuple[str, ...]:
    """Return notes on the columns that are left out, if there are any."""
    if not columns:
        return ()
    notes = [f"columns of {table.path.name} that play no part: {', '.join(columns)}"]
    for column in columns:
        if _plain(column) in USUAL["event"]:
            kinds = table.words(column).drop_nulls().unique(maintain_order=True)
            shown = ", ".join(kinds.head(_MOST)) + (", ..." if len(kinds) > _MOST else "")
            notes.append(
                f"all kinds of {column} count alike ({shown}); a table [data.events] says which "
                "count, and how much"
            )
    return tuple(notes)


_MOST = 6
"""Kinds of events that a note names."""


def items_of(table: Table, config: DataConfig) -> pl.DataFrame:
    """Return a table of items as `RawTables` has them; raises as `interactions_of`."""
    names = config.columns
    item, title = needed_column("item", names, table, "id"), column_of("title", names, table)
    table.require(names.text)
    text = names.text or [name for name in table.text_columns() if name != item]
    ids = table.ids(item)
    titles = ids if title is None else table.words(title)
    return pl.DataFrame(
        {
            "id": ids,
            "title": pl.select(pl.coalesce(titles, ids)).to_series(),
            "text": table.texts(text),
        }
    )


def needed_column(key: str, names: ColumnsConfig, table: Table, *more: str) -> str:
    """Return the name of a column that must be there; `more` are usual in this kind of table."""
    found = column_of(key, names, table, *more)
    if found is None:
        raise DataError(
            f"{table.path} has no column {getattr(names, key)!r}, nor another usual name of the "
            f"{key}; its columns are {', '.join(table.frame.columns)}; name one in "
            f"data.columns.{key}"
        )
    return found


def column_of(key: str, names: ColumnsConfig, table: Table, *more: str) -> str | None:
    """Return the name that a column has in a table; None where it has none and may do so."""
    name, there = getattr(names, key), table.frame.columns
    default = ColumnsConfig.model_fields[key].default
    if not name and default:  # none is meant
        return None
    if name != default or name in there:
        table.require([name])
        return str(name)
    usual = [column for column in there if _plain(column) in USUAL[key] | set(more)]
    if len(usual) > 1:
        raise DataError(
            f"{table.path} has several columns that may be the {key}: {', '.join(usual)}; name one "
            f"in data.columns.{key}"
        )
    return usual[0] if usual else None


def _plain(column: str) -> str:
    """Return a column's name in lower case, without signs."""
    return "".join(filter(str.isalnum, column.lower()))
