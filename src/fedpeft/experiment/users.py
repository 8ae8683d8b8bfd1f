"""What a finished run gave each user, which tests of significance over users begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from fedpeft.data.dataset import Split
from fedpeft.evaluation import Part, Ranks
from fedpeft.evaluation.metrics import gains
from fedpeft.files import atomic_path


def write_users(
    path: Path, split: Split, user_ids: Sequence[str], ranks: Mapping[Part, Ranks]
) -> None:
    """Write one row per evaluated user, in the order of ``split.eval_users``, as Parquet.

    Its columns are ``user``, the id in the data set, and for each part and ranking, such as
    ``test.sampled``, the held-out item's ``test.sampled.rank`` (int64, 1 = best) and what it gives,
    ``test.sampled.ndcg@10`` (float64).
    """
    columns: dict[str, object] = {"user": [user_ids[user] for user in split.eval_users]}
    for part, found in ranks.items():
        for kind, places in (("sampled", found.sampled), ("full", found.full)):
            columns[f"{part}.{kind}.rank"] = places
            columns[f"{part}.{kind}.ndcg@10"] = gains(places, 10)
    with atomic_path(path) as temporary:
        pl.DataFrame(columns).write_parquet(temporary)
