"""Means over seeds, and means of paired differences with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit  # scipy.stats takes half a second to import

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
    """A mean of n paired differences; `low` and `high` are None where one gives no interval."""

    mean: float
    low: float | None
    high: float | None
    n: int
    over: Literal["users", "seeds"] = "seeds"
    """What the differences are of."""


def spread_of(values: Sequence[float]) -> Spread:
    """Return mean and standard deviation of at least one value."""
    return Spread(mean(values), stdev(values) if len(values) > 1 else None)


def interval_of(
    differences: ArrayLike,
    over: Literal["users", "seeds"] = "seeds",
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return the mean of at least one difference, with its two-sided t interval.

    With n differences of mean d and sample standard deviation s it is d +- t s / sqrt(n), where t
    is the quantile of Student's distribution with n - 1 degrees of freedom.
    """
    values = np.asarray(differences, np.float64)
    n, middle = len(values), float(values.mean())
    if n < 2:
        return Interval(middle, None, None, n, over)
    half = float(stdtrit(n - 1, (1 + confidence) / 2) * values.std(ddof=1)) / sqrt(n)
    return Interval(middle, middle - half, middle + half, n, over)
