"""Differences between two runs on one split, paired over the users.

Seeds tell how much training varies; users are a sample too, and these tell how a difference would
vary with other users like them, the trained models being what they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedpeft.errors import ArtifactError
from fedpeft.report.statistics import Interval, interval_of

Gains = NDArray[np.float64]
"""NDCG@10 of each evaluated user against the sampled negatives, float64 (users,)."""


def read_gains(folder: Path) -> dict[str, Gains]:
    """Return the users' gains of a run folder by part; nothing for a run of before they were kept.

    Raises
    ------
    ArtifactError
        If ``users.parquet`` is there and damaged.
    """
    path = folder / "users.parquet"
    try:
        table = pl.read_parquet(path, glob=False)
    except FileNotFoundError:
        return {}
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ArtifactError(f"{path} is not a readable Parquet file: {error}") from None
    found = {
        part: table[f"{part}.sampled.ndcg@10"]
        for part in ("validation", "test")
        if f"{part}.sampled.ndcg@10" in table.columns
    }
    for part, column in found.items():
        if not column.dtype.is_numeric() or column.has_nulls() or not column.is_between(0, 1).all():
            raise ArtifactError(f"{path}: '{part}.sampled.ndcg@10' must be numbers in [0, 1]")
    return {part: column.to_numpy().astype(np.float64) for part, column in found.items()}


def over_users(gains: Gains, reference: Gains) -> Interval | None:
    """Return the mean difference with its interval; None unless both are of the same users."""
    if len(gains) != len(reference) or not len(gains):
        return None
    return interval_of(gains - reference)
