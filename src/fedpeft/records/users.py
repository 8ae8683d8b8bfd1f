"""``users.parquet``: what a finished run gave each user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedpeft.errors import ArtifactError
from fedpeft.records.parquet import read_table, write_table

Gains = NDArray[np.float64]
"""NDCG@10 of each evaluated user, float64 (users,)."""


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

    def gains(self, where: Path, ranking: str = "sampled") -> dict[str, Gains]:
        """Return the users' gains by part; raises `ArtifactError` where they cannot be such.

        Parameters
        ----------
        ranking
            ``sampled`` or ``full``: what the held-out item was ranked against.
        """
        found = {}
        for part in ("validation", "test"):
            name = f"{part}.{ranking}.ndcg@10"
            column = self.columns.get(name)
            if column is None:
                continue
            if (
                not column.dtype.is_numeric()
                or column.has_nulls()
                or not column.is_between(0, 1).all()
            ):
                raise ArtifactError(f"{where / self.FILE}: {name!r} must be numbers in [0, 1]")
            found[part] = column.to_numpy().astype(np.float64)
        return found
