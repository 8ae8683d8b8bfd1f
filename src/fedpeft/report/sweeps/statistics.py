"""Means over seeds, and paired differences with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

from scipy.stats import t

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; None for one seed."""

    mean: float
    std: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.std is None else f" ± {self.std:.4f}")


@dataclass(frozen=True)
class Interval:
    """A mean paired difference; `low` and `high` are None where one seed gives no interval."""

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def verdict(self) -> str:
        """Return whether the difference exceeds seed noise."""
        if self.low is None or self.high is None:
            return "one seed"
        if self.low > 0:
            return "above"
        return "below" if self.high < 0 else "within noise"


def spread_of(values: Sequence[float]) -> Spread:
    """Return mean and standard deviation of at least one value."""
    return Spread(mean(values), stdev(values) if len(values) > 1 else None)


def paired_interval(values: Mapping[int, float], reference: Mapping[int, float]) -> Interval | None:
    """Return the mean difference over the seeds both have, with its two-sided t interval.

    With n differences of mean d and sample standard deviation s it is d +- t s / sqrt(n), where t
    is the quantile of Student's distribution with n - 1 degrees of freedom (95 %).  Seeds are
    paired because the same seed draws the same cohorts and starts.

    Parameters
    ----------
    values, reference
        Value per seed.

    Returns
    -------
    Interval or None
        None when no seed has both.
    """
    differences = [values[seed] - reference[seed] for seed in values if seed in reference]
    if not differences:
        return None
    n, middle = len(differences), mean(differences)
    if n < 2:
        return Interval(middle, None, None, n)
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stdev(differences) / sqrt(n)
    return Interval(middle, middle - half, middle + half, n)
