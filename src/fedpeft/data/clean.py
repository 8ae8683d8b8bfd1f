"""From raw tables to a `Dataset`: one cleaning step for every reader."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedpeft.data.config import DataConfig
from fedpeft.data.dataset import Catalogue, Dataset, Histories, Ints
from fedpeft.data.ragged import indptr_of
from fedpeft.data.raw import RawTables, first_row
from fedpeft.errors import DataError


@dataclass
class _Events:
    """Interactions as aligned index arrays; `row` is the row number in the file, from 0."""

    user: Ints
    item: Ints
    row: Ints
    counts: dict[str, int] = field(default_factory=dict)

    def keep(self, mask: NDArray[np.bool_], dropped: str) -> None:
        """Drop what `mask` does not keep and count it."""
        self.counts[dropped] = self.counts.get(dropped, 0) + int((~mask).sum())
        self.user, self.item, self.row = self.user[mask], self.item[mask], self.row[mask]


def clean(raw: RawTables, config: DataConfig) -> Dataset:
    """Order, deduplicate and filter raw tables.

    Per user: by time, ties by file order (or by file order alone).  Of several interactions of a
    user with an item the earliest stays.  Users with fewer than `min_interactions` items go; items
    keep the order of the items file.

    Raises
    ------
    DataError
        Repeated or missing ids, missing times or ratings, unknown items, empty texts, nothing left.
    """
    _check_ids(raw)
    events, user_ids = _index(raw, config)
    order = _time_order(raw, config, events)
    events.user, events.item, events.row = (
        events.user[order],
        events.item[order],
        events.row[order],
    )
    n_items = raw.items.height
    _, first = np.unique(events.user * n_items + events.item, return_index=True)
    mask = np.zeros(len(order), bool)
    mask[first] = True
    events.keep(mask, "duplicates_dropped")

    lengths = np.bincount(events.user, minlength=len(user_ids)).astype(np.int64)
    kept = lengths >= config.min_interactions
    events.keep(kept[events.user], "interactions_of_dropped_users")
    if not kept.any():
        raise DataError(
            f"no user of {raw.name} has {config.min_interactions} or more items (min_interactions)"
        )
    catalogue, items = _catalogue(raw, config, events)
    counts = events.counts | {
        "users_dropped": int((~kept).sum()),
        "users": int(kept.sum()),
        "items": len(catalogue),
        "interactions": len(items),
    }
    return Dataset(
        name=raw.name,
        catalogue=catalogue,
        user_ids=user_ids.filter(pl.Series(kept)).to_list(),
        histories=Histories(indptr_of(lengths[kept]), items),
        counts=counts,
    )


def _check_ids(raw: RawTables) -> None:
    for table, column, path in (
        (raw.items, "id", raw.items_path),
        (raw.interactions, "user", raw.interactions_path),
        (raw.interactions, "item", raw.interactions_path),
    ):
        absent = table[column].fill_null("") == ""
        if absent.any():
            kind = "item" if column == "id" else column
            raise DataError(f"{path}, row {first_row(absent)}: the {kind} id is empty")
    ids = raw.items["id"]
    if ids.n_unique() < len(ids):
        again = first_row(~ids.is_first_distinct())
        raise DataError(f"{raw.items_path}, row {again}: item id {ids[again - 1]!r} is repeated")


def _index(raw: RawTables, config: DataConfig) -> tuple[_Events, pl.Series]:
    """Replace ids by indices; users are numbered by their first interaction in the file."""
    table = raw.interactions.with_row_index("row")
    ids = raw.items.select(item="id").with_row_index("index")
    table = table.join(ids, on="item", how="left").sort("row")
    counts = {"interactions_read": table.height, "items_read": raw.items.height}
    counts |= dict(raw.counts)
    table = _drop_low_rated(raw, config, table, counts)
    unknown = table["index"].null_count()
    if unknown:
        rule = raw.unknown_items if config.unknown_items == "auto" else config.unknown_items
        if rule == "error":
            row, item = table.filter(pl.col("index").is_null()).select("row", "item").row(0)
            raise DataError(
                f"{raw.interactions_path}, row {row + 1}: item {item!r} is not in {raw.items_path} "
                f'({unknown} such interactions); set unknown_items = "drop" to leave them out'
            )
        table = table.filter(pl.col("index").is_not_null())
    counts["unknown_items_dropped"] = unknown
    if table.height == 0:
        raise DataError(f"no interaction of {raw.interactions_path} is left after cleaning")
    first = table.select(pl.col("row").first().over("user")).to_series().to_numpy()
    _, place, user = np.unique(first, return_index=True, return_inverse=True)
    events = _Events(
        user=user.reshape(-1).astype(np.int64),
        item=table["index"].to_numpy().astype(np.int64),
        row=table["row"].to_numpy().astype(np.int64),
        counts=counts,
    )
    return events, table["user"].gather(pl.Series(place))


def _drop_low_rated(
    raw: RawTables, config: DataConfig, table: pl.DataFrame, counts: dict[str, int]
) -> pl.DataFrame:
    if config.min_rating is None:
        return table
    if "rating" not in table.columns:
        raise DataError(
            f"min_rating needs ratings, but none were read from {raw.interactions_path}; "
            "name their column in columns.rating"
        )
    missing = table["rating"].is_null() | table["rating"].is_nan()
    if missing.any():
        raise DataError(
            f"{raw.interactions_path}, row {first_row(missing)}: no rating "
            f"({int(missing.sum())} such rows), but min_rating is set"
        )
    kept = table.filter(pl.col("rating") >= config.min_rating)
    counts["low_rated_dropped"] = table.height - kept.height
    return kept


def _time_order(raw: RawTables, config: DataConfig, events: _Events) -> Ints:
    """Return the order that sorts events by user, then time (or position in the file)."""
    order = np.arange(len(events.user))
    column = "timestamp" if config.order == "time" else "position"
    if column in raw.interactions.columns:
        places = raw.interactions[column]
        missing = places.is_null() | (places.is_nan() if places.dtype.is_float() else False)
        if missing.any():
            raise DataError(f"{raw.interactions_path}, row {first_row(missing)}: no {column}")
        order = np.argsort(places.to_numpy()[events.row], kind="stable")
    return order[np.argsort(events.user[order], kind="stable")]


def _catalogue(raw: RawTables, config: DataConfig, events: _Events) -> tuple[Catalogue, Ints]:
    """Return the catalogue and the events' items as indices into it."""
    table, items = raw.items, events.item
    if config.items == "interacted":
        used = np.zeros(table.height, bool)
        used[items] = True
        items = (np.cumsum(used) - 1)[items]
        events.counts["items_without_interaction_dropped"] = int((~used).sum())
        table = table.filter(pl.Series(used))
    empty = table["text"].str.strip_chars() == ""
    if empty.any() and config.empty_text == "error":
        raise DataError(
            f"{raw.items_path}: item {table['id'].filter(empty)[0]!r} has no text "
            f'({int(empty.sum())} such items); set empty_text = "keep" to allow it'
        )
    events.counts["items_without_text"] = int(empty.sum())
    catalogue = Catalogue(table["id"].to_list(), table["title"].to_list(), table["text"].to_list())
    return catalogue, items.astype(np.int64)
