"""From ranks to ranking metrics, for one held-out item per user.

With one relevant item the usual metrics are functions of its rank r alone (1 = best): HR@K (equal
to recall@K) is ``r <= K``, NDCG@K is ``1 / log2(r + 1)`` within the first K places and 0 below
(Jarvelin and Kekalainen 2002, with an ideal gain of 1), and MRR is ``1 / r``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fedpeft.data.dataset import Ints
from fedpeft.errors import RunError

CUTOFFS: tuple[int, ...] = (1, 5, 10, 20, 50)

Floats = NDArray[np.float64]


def hits(ranks: Ints, k: int) -> Floats:
    """Return HR@k of each user: 1.0 where the rank is within the first `k`, else 0.0."""
    return (ranks <= k).astype(np.float64)


def gains(ranks: Ints, k: int) -> Floats:
    """Return NDCG@k of each user, in [0, 1]."""
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def summarise(ranks: Ints) -> dict[str, float]:
    """Average the metrics over users.

    Parameters
    ----------
    ranks
        int64 of shape (users,), each >= 1.

    Returns
    -------
    dict
        ``hr@K`` and ``ndcg@K`` for K in `CUTOFFS`, ``mrr`` (no cut-off) and ``median_rank``.

    Raises
    ------
    RunError
        If there is no user: a mean over nobody has no value.
    """
    if len(ranks) == 0:
        raise RunError("there is no user to evaluate, so the metrics have no value")
    values = {f"hr@{k}": float(hits(ranks, k).mean()) for k in CUTOFFS}
    values |= {f"ndcg@{k}": float(gains(ranks, k).mean()) for k in CUTOFFS}
    return values | {
        "mrr": float((1.0 / ranks).mean()),
        "median_rank": float(np.median(ranks)),
    }


def standard_errors(ranks: Ints) -> dict[str, float]:
    """Return the standard error over users of ``hr@10`` and ``ndcg@10``.

    It measures the sample of users only, not the seeds of training.  Empty for fewer than two
    users, where a standard error is not defined.
    """
    if len(ranks) < 2:
        return {}
    scale = 1.0 / math.sqrt(len(ranks))
    return {
        "hr@10": float(hits(ranks, 10).std(ddof=1)) * scale,
        "ndcg@10": float(gains(ranks, 10).std(ddof=1)) * scale,
    }
