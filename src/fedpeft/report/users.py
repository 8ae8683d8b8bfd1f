"""Differences between two runs on one split, paired over the users.

Seeds tell how much training varies; users are a sample too, and these tell how a difference would
vary with other users like them, the trained models being what they are.
"""

from __future__ import annotations

from fedpeft.records.users import Gains
from fedpeft.report.statistics import Interval, interval_of


def over_users(gains: Gains, reference: Gains) -> Interval | None:
    """Return the mean difference with its interval; None unless both are of the same users."""
    if len(gains) != len(reference) or not len(gains):
        return None
    return interval_of(gains - reference)
