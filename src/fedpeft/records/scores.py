"""The scores of a model: metrics by name."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from fedpeft.records.base import Record

HEADLINE = ("hr@10", "ndcg@10")
"""Metrics every evaluation has."""


def _with_headline(scores: dict[str, float]) -> dict[str, float]:
    for name in HEADLINE:
        if name not in scores:
            raise ValueError(f"has no {name!r}, only {', '.join(sorted(scores)) or 'nothing'}")
    return scores


class Scores(Record):
    """Metric values by lower-case name, for example ``ndcg@10``, each in [0, 1]."""

    sampled: Annotated[dict[str, float], AfterValidator(_with_headline)]
    """Against the sampled negatives; holds at least `HEADLINE`."""
    full: dict[str, float] = Field(default_factory=dict)
    """Against all items."""

    def metric(self, name: str) -> float | None:
        """Return a metric by its ranking and name, such as ``full.ndcg@10``; None if not there."""
        ranking, _, metric = name.partition(".")
        return {"sampled": self.sampled, "full": self.full}[ranking].get(metric)
