"""From scores to ranks by counting: no sort, no masking, no change to the scores.

The rank of a target is 1 + the number of other candidates that score at least as high, so a tie
always counts against the model: a constant scorer ranks every target last.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rank_in_list(scores: Tensor, targets: Tensor, candidates: Tensor) -> Tensor:
    """Rank each user's target against that user's own list of candidates.

    Parameters
    ----------
    scores
        Floating point of shape (users, items), without NaN.
    targets
        int64 of shape (users,): one item per user.
    candidates
        int64 of shape (users, c): items other than the target; -1 is padding and counts nothing.

    Returns
    -------
    Tensor
        int64 of shape (users,), in [1, c + 1]; 1 where a list holds padding only.
    """
    bar = scores.gather(1, targets[:, None])
    above = scores.gather(1, candidates.clamp(min=0)) >= bar
    return 1 + (above & (candidates >= 0)).sum(1)


def rank_in_catalogue(scores: Tensor, targets: Tensor, rows: Tensor, excluded: Tensor) -> Tensor:
    """Rank each user's target against all items except that user's excluded ones.

    Everything is counted first and the excluded items that were counted are taken off again.  This
    leaves the scores as they are (a scorer may return a broadcast view) and stays right where real
    scores are infinite, which a mask of -inf would not.

    Parameters
    ----------
    scores
        Floating point of shape (users, items), without NaN.
    targets
        int64 of shape (users,): one item per user.
    rows, excluded
        int64 of shape (m,): user ``rows[j]`` does not have item ``excluded[j]`` as a candidate; no
        pair twice, never the target.

    Returns
    -------
    Tensor
        int64 of shape (users,), in [1, items].
    """
    bar = scores.gather(1, targets[:, None])
    counted = (scores >= bar).sum(1)  # the target itself is among them: this is the 1 of the rank
    taken_off = rows[scores[rows, excluded] >= bar[rows, 0]]
    return counted - torch.bincount(taken_off, minlength=len(targets))


def first_nan_row(scores: Tensor) -> int | None:
    """Return the first row that holds a NaN, or None."""
    # One cheap sum clears almost every matrix; inf - inf is NaN too, hence the exact second look.
    if not bool(torch.isnan(scores.sum())):
        return None
    bad = torch.isnan(scores).any(1).nonzero()
    return int(bad[0, 0]) if len(bad) else None
