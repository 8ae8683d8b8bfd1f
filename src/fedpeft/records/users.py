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
from fedpeft.files import atomic_path
from fedpeft.records.base import check_schema

Gains = NDArray[np.float64]
"""NDCG@10 of each evaluated user against the sampled negatives, float64 (users,)."""

_KEY = "fedpeft.schema"


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
        table = pl.DataFrame(dict(self.columns))
        with atomic_path(folder / self.FILE, private=True) as temporary:
            table.write_parquet(temporary, metadata={_KEY: str(self.SCHEMA)})

    @classmethod
    def read(cls, folder: Path) -> Users | None:
        """Read it; None for a run of before it was kept.

        Raises
        ------
        ArtifactError
            If it is there and damaged, or of a later schema.
        """
        path = folder / cls.FILE
        try:
            told = pl.read_parquet_metadata(path).get(_KEY, "1")
            check_schema(int(told) if told.isdigit() else told, cls.SCHEMA, f"{path}")
            return cls(pl.read_parquet(path, glob=False).to_dict())
        except FileNotFoundError:
            return None
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ArtifactError(f"{path} is not a readable Parquet file: {error}") from None

    def gains(self, where: Path) -> dict[str, Gains]:
        """Return the users' gains by part; raises `ArtifactError` where they cannot be such."""
        found = {}
        for part in ("validation", "test"):
            name = f"{part}.sampled.ndcg@10"
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
