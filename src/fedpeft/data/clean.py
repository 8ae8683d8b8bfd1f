"""From raw tables to a `Dataset`: one cleaning step for every reader."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedpeft.data.config import DataConfig
from fedpeft.data.dataset import Catalogue, Dataset, Floats, Histories, Ints
from fedpeft.data.events import check_events, weigh
from fedpeft.data.order import draws, order_of, sorting, tied, times_of
from fedpeft.data.ragged import indptr_of
from fedpeft.data.raw import RawTables, first_row
from fedpeft.errors import DataError

TIED = ("users_with_test_by_tie", "users_with_validation_by_tie")
"""Counts of users for whom a tie of times decided what is held out."""


@dataclass
class _Events:
    """Interactions as aligned arrays; `row` is the row number in the file, from 0."""

    user: Ints
    item: Ints
    row: Ints
    weight: Floats | None
    counts: dict[str, int] = field(default_factory=dict)

    def take(self, places: Ints | NDArray[np.bool_]) -> None:
        """Keep the interactions at these places, in this order."""
        self.user, self.item, self.row = self.user[places], self.item[places], self.row[places]
        if self.weight is not None:
            self.weight = self.weight[places]

    def keep(self, mask: NDArray[np.bool_], dropped: str) -> None:
        """Drop what `mask` does not keep and count it."""
        self.counts[dropped] = self.counts.get(dropped, 0) + int((~mask).sum())
        self.take(mask)


def clean(raw: RawTables, config: DataConfig) -> Dataset:
    """Order, deduplicate and filter raw tables.

    Per user: by time, ties as drawn (see `fedpeft.data.order`) or by file order; or by file order
    alone; or all as drawn, where there are no times.  Of several interactions of a user with an
    item the strongest stays, and the earliest of those.  Users with fewer than `min_interactions`
    items go; items keep the order of the items file, and without one that of their ids.

    Raises
    ------
    DataError
        Repeated or missing ids, missing times or ratings, unknown items, empty texts, events that
        are not there, nothing left.
    """
    notes = list(raw.notes)
    known = raw.items
    if known is None:
        known = _ids_as_items(raw.interactions)
        notes.append(
            "there is no file of items: the catalogue is made of the ids, and item vectors start "
            "without text"
        )
    _check_ids(raw, known)
    check_events(raw, config)
    events, user_ids = _index(raw, known, config)
    times, order = times_of(raw, config), order_of(raw, config)
    by_row = order == "file" or (order == "time" and config.ties == "file")
    drawn = None
    if not by_row:
        drawn = draws(config.order_seed, user_ids, events.user, known["id"], events.item)
    when = None if times is None else times[events.row]
    events.take(sorting(events.user, when, drawn))
    events.keep(_strongest(events), "duplicates_dropped")

    lengths = np.bincount(events.user, minlength=len(user_ids)).astype(np.int64)
    kept = lengths >= config.min_interactions
    events.keep(kept[events.user], "interactions_of_dropped_users")
    if not kept.any():
        raise DataError(
            f"no user of {raw.name} has {config.min_interactions} or more items (min_interactions)"
        )
    if order == "time":
        assert times is not None
        by_tie = dict(zip(TIED, tied(events.user, times[events.row]), strict=True))
        events.counts |= by_tie
    catalogue, items = _catalogue(raw, known, config, events)
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
        histories=Histories(indptr_of(lengths[kept]), items, events.weight),
        counts=counts,
        order=order,
        notes=notes,
    )


def _ids_as_items(interactions: pl.DataFrame) -> pl.DataFrame:
    """Return a table of items that are known by their ids alone, in the order of these."""
    ids = interactions["item"].drop_nulls().unique().sort()
    return pl.DataFrame({"id": ids, "title": ids, "text": [""] * len(ids)}).filter(
        pl.col("id") != ""
    )


def _strongest(events: _Events) -> NDArray[np.bool_]:
    """Return which interactions stay where a user has an item several times."""
    place = np.arange(len(events.user))
    strength = place * 0 if events.weight is None else -events.weight
    ranked = np.lexsort((place, strength, events.item, events.user))
    user, item = events.user[ranked], events.item[ranked]
    again = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    mask = np.ones(len(place), bool)
    mask[ranked[1:][again]] = False
    return mask


def _check_ids(raw: RawTables, items: pl.DataFrame) -> None:
    for table, column, path in (
        (items, "id", raw.items_path),
        (raw.interactions, "user", raw.interactions_path),
        (raw.interactions, "item", raw.interactions_path),
    ):
        absent = table[column].fill_null("") == ""
        if absent.any():
            kind = "item" if column == "id" else column
            raise DataError(f"{path}, row {first_row(absent)}: the {kind} id is empty")
    ids = items["id"]
    if ids.n_unique() < len(ids):
        again = first_row(~ids.is_first_distinct())
        raise DataError(
            f"{raw.items_path}, row {again}: item id {ids[again - 1]!r} is repeated, one of "
            f"{len(ids) - ids.n_unique()} such rows; keep one row for each item"
        )


def _index(raw: RawTables, items: pl.DataFrame, config: DataConfig) -> tuple[_Events, pl.Series]:
    """Replace ids by indices; users are numbered by their first interaction in the file."""
    table = raw.interactions.with_row_index("row")
    ids = items.select(item="id").with_row_index("index")
    table = table.join(ids, on="item", how="left").sort("row")
    counts = {"interactions_read": table.height, "items_read": items.height}
    counts |= dict(raw.counts)
    table = _drop_low_rated(raw, config, table, counts)
    table = weigh(config, table, counts)
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
        weight=table["weight"].to_numpy() if "weight" in table.columns else None,
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


def _catalogue(
    raw: RawTables, table: pl.DataFrame, config: DataConfig, events: _Events
) -> tuple[Catalogue, Ints]:
    """Return the catalogue and the events' items as indices into it."""
    items = events.item
    if config.items == "interacted":
        used = np.zeros(table.height, bool)
        used[items] = True
        items = (np.cumsum(used) - 1)[items]
        events.counts["items_without_interaction_dropped"] = int((~used).sum())
        table = table.filter(pl.Series(used))
    empty = table["text"].str.strip_chars() == ""
    if empty.any() and raw.items is not None and config.empty_text == "error":
        raise DataError(
            f"{raw.items_path}: item {table['id'].filter(empty)[0]!r} has no text "
            f'({int(empty.sum())} such items); set empty_text = "keep" to allow it'
        )
    events.counts["items_without_text"] = int(empty.sum())
    catalogue = Catalogue(table["id"].to_list(), table["title"].to_list(), table["text"].to_list())
    return catalogue, items.astype(np.int64)
