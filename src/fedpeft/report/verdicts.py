"""How a model stands to another: a verdict on each of three metrics, the same on every page.

Differences are paired.  Where runs have kept what each user got they are paired over the users,
each user's being the mean over the common seeds: how far it would vary with other users like them,
the trained models being what they are.  Else they are paired over the seeds, because the same seed
draws the same cohorts and starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from fedpeft.records.users import Gains
from fedpeft.report.statistics import Interval, interval_of

MAIN = "full.ndcg@10"
"""The metric that stands first and orders cells."""

CURVE = "sampled.ndcg@10"
"""The metric of learning curves: every backbone is evaluated on it in the course of training."""

METRICS: Mapping[str, str] = {
    MAIN: "NDCG@10 full",
    CURVE: "NDCG@10 sampled",
    "sampled.hr@10": "HR@10 sampled",
}
"""The metrics that have verdicts, without their part, and their headings."""

RANKINGS = (
    "NDCG@10 full ranks the held-out item among all items; NDCG@10 and HR@10 sampled rank it among "
    "the sampled negatives."
)

FEWEST = 3
"""Paired differences that a verdict takes: the interval of two is too wide to say anything."""

SEEDS = "\N{DAGGER}"
"""Stands beside a difference over seeds where others are over users."""

Verdict = Literal["won", "within noise", "lost", "no verdict"]

SIGNS: Mapping[Verdict, str] = {"won": "▲ ", "lost": "▼ ", "within noise": "", "no verdict": ""}
"""What stands before a verdict."""

VERDICTS = (
    "On each metric a difference has won if its 95 % interval (Student's, of the paired "
    "differences) is above zero, lost if it is below, and is within noise if it contains zero: "
    "that leaves open which of the two is better and does not say that both are equal. Fewer than "
    f"{FEWEST} pairs give no verdict."
)
OVERALL = (
    "In all it has lost if it has lost on one of the three metrics, and won if on none and it has "
    "won on one or costs fewer bytes in all."
)
"""The two rules, in the words that pages have."""


class Score(NamedTuple):
    """A metric of one run: its mean, and what each user got where the run has kept that."""

    mean: float
    users: Gains | None = None


def difference(scores: Mapping[int, Score], reference: Mapping[int, Score]) -> Interval | None:
    """Return how a metric differs, with its interval; None without a common seed.

    Parameters
    ----------
    scores, reference
        By seed, all of one split.
    """
    pairs = [(score, reference[seed]) for seed, score in scores.items() if seed in reference]
    if not pairs:
        return None
    gains = [
        mine.users - its.users
        for mine, its in pairs
        if mine.users is not None and its.users is not None and len(mine.users) == len(its.users)
    ]
    if len(gains) == len(pairs) and len({len(gain) for gain in gains}) == 1 and len(gains[0]):
        return interval_of(np.mean(gains, axis=0), "users")
    return interval_of([mine.mean - its.mean for mine, its in pairs])


def verdict(found: Interval | None) -> Verdict:
    """Return what a difference on one metric says."""
    if found is None or found.low is None or found.high is None or found.n < FEWEST:
        return "no verdict"
    if found.low > 0:
        return "won"
    return "lost" if found.high < 0 else "within noise"


def overall(differences: Mapping[str, Interval], share: float | None) -> Verdict:
    """Return what the differences on all of `METRICS` say together.

    Parameters
    ----------
    differences
        By metric.
    share
        Bytes in all as a share of the reference's; None if one of the two is not known.
    """
    words = [verdict(differences.get(name)) for name in METRICS]
    if "lost" in words:
        return "lost"
    if "no verdict" in words:
        return "no verdict"
    return "won" if "won" in words or (share is not None and share < 1) else "within noise"


def is_mixed(differences: Iterable[Interval]) -> bool:
    """Return whether some are over users and some over seeds."""
    return len({found.over for found in differences}) > 1


def pairing(differences: Iterable[Interval]) -> str:
    """Return what differences are paired over, as pages say it; `SEEDS` marks some of several."""
    over = {found.over for found in differences}
    if over == {"users"}:
        return "paired over the users"
    why = "what each user got is not known"
    if over == {"seeds"}:
        return f"paired over the seeds ({why})"
    return f"paired over the users, or where there is a {SEEDS} over the seeds ({why})"


def interval_text(found: Interval, mixed: bool = False) -> str:
    """Return the ends of an interval; with `mixed`, `SEEDS` marks those over seeds."""
    mark = f" {SEEDS}" if mixed and found.over == "seeds" else ""
    if found.low is None or found.high is None:
        return f"[-]{mark}"
    return f"[{found.low:+.4f}, {found.high:+.4f}]{mark}"


def told(found: Interval, mixed: bool = False) -> str:
    """Return a difference with its verdict and its interval."""
    word = verdict(found)
    return f"{SIGNS[word]}{word} {found.mean:+.4f} {interval_text(found, mixed)}"
