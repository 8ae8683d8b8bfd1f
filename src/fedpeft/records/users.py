"""``users.parquet``: what a finished run gave each user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import inf
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedpeft.errors import ArtifactError
from fedpeft.records.parquet import read_table, write_table

Gains = NDArray[np.float64]
"""One metric of each evaluated user, float64 (users,)."""


@dataclass(frozen=True)
class Users:
    """One row per evaluated user, in the order of the split.

    Attributes
    ----------
    columns
        ``user``, the id in the data set, and for each part and ranking, such as ``test.sampled``,
        the held-out item's ``test.sampled.rank`` (int64, 1 = best) and what it gives,
        ``test.sampled.ndcg@10`` (float64).
    """

    FILE: ClassVar[str] = "users.parquet"
    SCHEMA: ClassVar[int] = 2

    columns: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write it into a run folder, atomically and for its owner alone: it tells of people."""
        write_table(pl.DataFrame(dict(self.columns)), folder / self.FILE, self.SCHEMA, private=True)

    @classmethod
    def read(cls, folder: Path) -> Users | None:
        """Read it; None for a run of before it was kept.

        Raises
        ------
        ArtifactError
            If it is there and damaged, or of a later schema.
        """
        path = folder / cls.FILE
        return cls(read_table(path, cls.SCHEMA).to_dict()) if path.exists() else None

    def gains(self, where: Path) -> dict[str, Gains]:
        """Return what each user got, by column such as ``test.full.ndcg@10``; HR@10 is from ranks.

        Raises
        ------
        ArtifactError
            If a column holds what cannot be such a metric or rank.
        """
        found = {}
        for part, ranking in product(("validation", "test"), ("full", "sampled")):
            name = f"{part}.{ranking}"
            if (gains := self._numbers(f"{name}.ndcg@10", 0, 1, where)) is not None:
                found[f"{name}.ndcg@10"] = gains
            if (ranks := self._numbers(f"{name}.rank", 1, inf, where)) is not None:
                found[f"{name}.hr@10"] = (ranks <= 10).astype(np.float64)
        return found

    def _numbers(self, name: str, low: float, high: float, where: Path) -> Gains | None:
        """Return a column of numbers within bounds; None where there is no such column."""
        column = self.columns.get(name)
        if column is None:
            return None
        if (
            not column.dtype.is_numeric()
            or column.has_nulls()
            or not column.is_between(low, high).all()
        ):
            allowed = f"{low} or more" if high == inf else f"numbers in [{low}, {high}]"
            raise ArtifactError(f"{where / self.FILE}: {name!r} must be {allowed}")
        values: Gains = column.to_numpy().astype(np.float64)
        return values
