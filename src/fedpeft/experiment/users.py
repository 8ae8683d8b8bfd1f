"""What a finished run gave each user, which tests of significance over users begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedpeft.data.dataset import Split
from fedpeft.evaluation import Holdout, Ranks
from fedpeft.evaluation.metrics import gains
from fedpeft.records import Users


def users_of(split: Split, user_ids: Sequence[str], ranks: Mapping[Holdout, Ranks]) -> Users:
    """Return one row per evaluated user, in the order of ``split.eval_users``."""
    columns: dict[str, object] = {"user": [user_ids[user] for user in split.eval_users]}
    for part, found in ranks.items():
        for kind, places in (("sampled", found.sampled), ("full", found.full)):
            columns[f"{part}.{kind}.rank"] = places
            columns[f"{part}.{kind}.ndcg@10"] = gains(places, 10)
    return Users(columns)
