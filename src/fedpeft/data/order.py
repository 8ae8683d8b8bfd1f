"""The order of a user's interactions: by time or by file; ties, and what has no times, by a hash.

Many logs have times by the second or by the day, and a user's last interactions often share one.
Files are sorted by item id as often as not, so ties by row of the file would hold out the item with
the largest id: the newest, say, and least popular.  The order among ties is therefore drawn, by a
hash of a seed, the user id and the item id.  It is the same for every order of the file's rows, and
for every run, since the seed is one of the data and not of the run.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedpeft.data.config import DataConfig
from fedpeft.data.dataset import Ints, Order
from fedpeft.data.raw import RawTables, first_row
from fedpeft.errors import DataError
from fedpeft.streams import ClientStream

Times = NDArray[Any]


def order_of(raw: RawTables, config: DataConfig) -> Order:
    """Return what a user's interactions are ordered by; `none` where there are no times."""
    if config.order == "time" and "timestamp" not in raw.interactions.columns:
        return "none"
    return config.order


def times_of(raw: RawTables, config: DataConfig) -> Times | None:
    """Return what orders the interactions, a number for each row; None: nothing but the row.

    Raises
    ------
    DataError
        If an interaction has no time.
    """
    order = order_of(raw, config)
    column = {"time": "timestamp", "file": "position", "none": ""}[order]
    if column not in raw.interactions.columns:
        return None
    places = raw.interactions[column]
    missing = places.is_null() | (places.is_nan() if places.dtype.is_float() else False)
    if missing.any():
        raise DataError(f"{raw.interactions_path}, row {first_row(missing)}: no {column}")
    return places.to_numpy()


def sorting(user: Ints, times: Times | None, draws: NDArray[np.uint64] | None) -> Ints:
    """Return the order that sorts interactions by user, time and draw; else they stay as they are.

    Parameters
    ----------
    user
        int64 (interactions,).
    times
        A number for each; None: all tie.
    draws
        uint64 (interactions,): what decides ties; None: the place does.
    """
    keys = [key for key in (draws, times, user) if key is not None]
    return np.lexsort(keys)


def draws(
    seed: int, users: pl.Series, user: Ints, items: pl.Series, item: Ints
) -> NDArray[np.uint64]:
    """Return a number for each interaction that its user's and its item's id decide, uint64.

    Parameters
    ----------
    users, items
        Ids.
    user, item
        int64 (interactions,): places among them.
    """
    stream = ClientStream(seed, "data", "order")
    return stream.words(_hashed(users)[user], _hashed(items)[item])


def _hashed(ids: pl.Series) -> Ints:
    """Return the first 8 bytes of each id's SHA-256, as int64."""
    digests = b"".join(hashlib.sha256(text.encode()).digest()[:8] for text in ids)
    return np.frombuffer(digests, "<i8").astype(np.int64)


def tied(user: Ints, times: Times) -> tuple[int, int]:
    """Return how many users' test item, and validation item, was decided by a tie.

    It was if another of the user's items, which could have been held out in its place, has the
    same time.

    Parameters
    ----------
    user
        int64 (interactions,), ascending, each at least three times.
    times
        Ascending within each user.
    """
    last = np.flatnonzero(np.append(user[1:] != user[:-1], True)) if len(user) else user
    test = times[last] == times[last - 1]
    return int(test.sum()), int((test | (times[last - 1] == times[last - 2])).sum())
