"""The evaluation protocol: sampled and full ranking of one held-out item per user.

Both rankings come from the same scores.  *Sampled* ranks the held-out item against the split's
seeded negatives; *full* ranks it against every item the user did not have before it: all items
except the user's train items and, for the test item, the validation item.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fedpeft.data.dataset import Ints, Split
from fedpeft.data.ragged import row_of, take
from fedpeft.errors import ConfigError, RunError
from fedpeft.evaluation.metrics import standard_errors, summarise
from fedpeft.evaluation.ranking import first_nan_row, rank_in_catalogue, rank_in_list

Scorer: TypeAlias = Callable[[Tensor], Tensor]
"""Maps user indices, int64 of shape (b,), to float32 scores of all items, shape (b, n_items).

Higher is better.  The scores are only read, so a broadcast view will do.
"""

ListScorer: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Maps user indices, int64 (b,), and a list of items for each, int64 (b, c), to float32 (b, c)."""

Holdout: TypeAlias = Literal["validation", "test"]

_CHUNK_BYTES = 8 * 2**20  # of float32 scores at once: stays in a CPU's last-level cache
_CHUNK_LISTS = 1024  # users whose lists are scored at once


@dataclass(frozen=True, eq=False)
class Ranks:
    """The rank of each evaluated user's held-out item, in the order of ``split.eval_users``.

    Attributes
    ----------
    sampled, full
        int64 of shape (e,), 1 = best.
    """

    sampled: Ints
    full: Ints


@dataclass(frozen=True)
class Report:
    """What one evaluation found.

    Attributes
    ----------
    part
        Which item was held out.
    n_users
        Number of evaluated users.
    short_users
        Users for whom fewer sampled negatives exist than asked for (tiny catalogues).  They are
        part of the sampled means, ranked against what there is, down to rank 1 of 1; where this
        is not 0, the sampled metrics flatter the model and full ranking is the one to read.
    sampled, full
        Means over users: ``hr@K``, ``ndcg@K``, ``mrr``, ``median_rank``.  `full` is empty where
        only lists were ranked.
    standard_error
        For ``sampled`` and ``full``: the standard error over users of ``hr@10`` and ``ndcg@10``.
    split
        Fingerprint of the split.
    """

    part: Holdout
    n_users: int
    short_users: int
    sampled: dict[str, float]
    full: dict[str, float]
    standard_error: dict[str, dict[str, float]]
    split: str

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values that JSON can hold."""
        return asdict(self)


def evaluate(
    scorer: Scorer, split: Split, part: Holdout = "validation", *, chunk_users: int | None = None
) -> Report:
    """Score the evaluated users and summarise the ranks of their held-out items.

    Parameters
    ----------
    scorer
        See `Scorer`.  Called without gradients, on consecutive chunks of ``split.eval_users``.
    split
        The leave-one-out split.
    part
        Which item is held out.  Choose everything on ``"validation"``; read ``"test"`` once.
    chunk_users
        Users scored at once; by default as many as keep the scores at 8 MiB (at least one), so
        that memory stays bounded for any catalogue.

    Raises
    ------
    ConfigError
        If `part` or `chunk_users` is out of range.
    RunError
        If there is no user to evaluate, a score is NaN, or the scorer returns another shape.
    """
    return report_of(rank_users(scorer, split, part, chunk_users=chunk_users), split, part)


def report_of(ranks: Ranks, split: Split, part: Holdout) -> Report:
    """Summarise ranks that `rank_users` found; raises `RunError` if there are none."""
    return _report(split, part, sampled=ranks.sampled, full=ranks.full)


@torch.inference_mode()
def evaluate_sampled(scorer: ListScorer, split: Split, part: Holdout = "validation") -> Report:
    """Rank the held-out items against the sampled negatives alone, as `evaluate` does it.

    Parameters and errors are those of `rank_sampled`.
    """
    return _report(split, part, sampled=rank_sampled(scorer, split, part))


@torch.inference_mode()
def rank_sampled(scorer: ListScorer, split: Split, part: Holdout = "validation") -> Ints:
    """Return each evaluated user's rank of the held-out item among the sampled negatives, int64.

    Where a score is a network's, a catalogue of thousands costs as many times what a hundred
    negatives cost, so this is for looking at a run that goes on.

    Parameters
    ----------
    scorer
        See `ListScorer`.  Called on consecutive chunks of ``split.eval_users``; each list is the
        held-out item and the negatives.  Padding of a short list is asked for as item 0.

    Raises
    ------
    ConfigError
        If `part` is unknown.
    RunError
        If there is no user to evaluate, a score is NaN, or the scorer returns another shape.
    """
    _check_part(part)
    held_out = split.validation if part == "validation" else split.test
    found = np.empty(len(split.eval_users), dtype=np.int64)
    for start in range(0, len(found), _CHUNK_LISTS):
        chunk = slice(start, start + _CHUNK_LISTS)
        users, negatives = split.eval_users[chunk], torch.from_numpy(split.negatives[chunk])
        targets = torch.from_numpy(held_out[users]).unsqueeze(1)
        lists = torch.cat([targets, negatives.clamp(min=0)], 1)
        scores = _checked(scorer(torch.tensor(users), lists), users, lists.shape[1])
        places = torch.arange(1, lists.shape[1]).expand_as(negatives)
        places = places.masked_fill(negatives < 0, -1).to(scores.device)
        ranks = rank_in_list(scores, places.new_zeros(len(users)), places)
        found[chunk] = ranks.cpu().numpy()
    return found


def _report(split: Split, part: Holdout, **ranks: Ints) -> Report:
    """Return the report on ranks, by kind of ranking."""
    means = {kind: summarise(found) for kind, found in ranks.items()}
    return Report(
        part=part,
        n_users=len(split.eval_users),
        short_users=int((split.negatives < 0).any(axis=1).sum()),
        sampled=means["sampled"],
        full=means.get("full", {}),
        standard_error={kind: standard_errors(found) for kind, found in ranks.items()},
        split=split.fingerprint,
    )


def _check_part(part: str) -> None:
    if part not in ("validation", "test"):
        raise ConfigError(f"part = {part!r}: must be 'validation' or 'test'")


@torch.inference_mode()
def rank_users(
    scorer: Scorer, split: Split, part: Holdout = "validation", *, chunk_users: int | None = None
) -> Ranks:
    """Rank each evaluated user's held-out item; parameters and errors as for `evaluate`.

    The ranks of two models on one split are paired, so they serve significance tests too.
    """
    _check_part(part)
    if chunk_users is None:
        chunk_users = max(1, _CHUNK_BYTES // (4 * max(1, split.n_items)))
    if chunk_users < 1:
        raise ConfigError(f"chunk_users = {chunk_users}: must be at least 1")
    sampled = np.empty(len(split.eval_users), dtype=np.int64)
    full = np.empty_like(sampled)
    for start in range(0, len(sampled), chunk_users):
        chunk = slice(start, start + chunk_users)
        users = split.eval_users[chunk]
        scores = _checked(scorer(torch.tensor(users)), users, split.n_items)
        targets, rows, excluded = _questions(split, part, users)
        negatives = torch.tensor(split.negatives[chunk])
        # Plans are made on the CPU; the counting follows the scores to their device.
        targets, rows, excluded, negatives = (
            plan.to(scores.device) for plan in (targets, rows, excluded, negatives)
        )
        sampled[chunk] = rank_in_list(scores, targets, negatives).cpu().numpy()
        full[chunk] = rank_in_catalogue(scores, targets, rows, excluded).cpu().numpy()
    return Ranks(sampled, full)


def _questions(split: Split, part: Holdout, users: Ints) -> tuple[Tensor, Tensor, Tensor]:
    """Return the targets of `users` and the (row, item) pairs that are no candidates."""
    train = take(split.train, users)
    rows, items = row_of(train.lengths()), train.items
    if part == "validation":
        targets = split.validation[users]
    else:
        targets = split.test[users]
        rows = np.concatenate([rows, np.arange(len(users))])
        items = np.concatenate([items, split.validation[users]])
    return torch.from_numpy(targets), torch.from_numpy(rows), torch.from_numpy(items)


def _checked(scores: Tensor, users: Ints, items: int) -> Tensor:
    """Return `scores` if they have the promised shape and hold no NaN."""
    expected = (len(users), items)
    if tuple(scores.shape) != expected or not scores.is_floating_point():
        raise RunError(
            f"the scorer returned {scores.dtype} scores of shape {tuple(scores.shape)}; "
            f"floating point of shape {expected} is needed"
        )
    row = first_nan_row(scores)
    if row is not None:
        raise RunError(f"the scores of user {int(users[row])} hold NaN, so nothing can be ranked")
    return scores
