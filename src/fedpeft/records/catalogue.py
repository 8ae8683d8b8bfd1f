"""``catalogue.parquet`` and ``histories.parquet``: what recommending needs of the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedpeft.errors import ArtifactError
from fedpeft.records.parquet import column, read_table, write_table


@dataclass(frozen=True, eq=False)
class CatalogueFile:
    """One row per item, in index order: ``item``, the id in the data set, and ``title``."""

    FILE: ClassVar[str] = "catalogue.parquet"
    SCHEMA: ClassVar[int] = 1

    ids: Sequence[str]
    titles: Sequence[str]

    def write(self, folder: Path) -> None:
        """Write it into a run folder, atomically."""
        table = pl.DataFrame({"item": self.ids, "title": self.titles}, schema_overrides=_TEXTS)
        write_table(table, folder / self.FILE, self.SCHEMA)

    @classmethod
    def read(cls, folder: Path) -> CatalogueFile:
        """Read it; raises `ArtifactError` where it is missing or damaged, or repeats an item."""
        path = folder / cls.FILE
        table = read_table(path, cls.SCHEMA)
        ids, titles = (column(table, name, pl.String, path) for name in _TEXTS)
        if not ids.is_unique().all():
            raise ArtifactError(f"{path} has an item twice")
        return cls(ids.to_list(), titles.to_list())


_TEXTS = {"item": pl.String, "title": pl.String}


@dataclass(frozen=True, eq=False)
class HistoriesFile:
    """One row per user, in index order: ``user``, the id in the data set, and ``items``.

    Attributes
    ----------
    indptr, items
        int64: user u has the items ``items[indptr[u]:indptr[u + 1]]``, rows of the catalogue,
        oldest first.
    weights
        float32, above 0: how much each counts; None: all count 1.
    """

    FILE: ClassVar[str] = "histories.parquet"
    SCHEMA: ClassVar[int] = 1

    users: Sequence[str]
    indptr: NDArray[np.int64]
    items: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None

    def write(self, folder: Path) -> None:
        """Write it into a run folder, atomically and for its owner alone: it tells of people."""
        rows = np.repeat(np.arange(len(self.users)), np.diff(self.indptr))
        flat = pl.DataFrame({"row": rows, "items": pl.Series(self.items, dtype=pl.UInt32)})
        if self.weights is not None:
            flat = flat.with_columns(weights=pl.Series(self.weights, dtype=pl.Float32))
        # no user is without items
        lists = flat.group_by("row", maintain_order=True).all().drop("row")
        table = lists.select(pl.Series("user", self.users, dtype=pl.String), pl.all())
        write_table(table, folder / self.FILE, self.SCHEMA, private=True)

    @classmethod
    def read(cls, folder: Path, n_items: int) -> HistoriesFile:
        """Read it.

        Raises
        ------
        ArtifactError
            If it is missing or damaged, repeats a user, or names an item that is not among the
            `n_items` of the catalogue.
        """
        path = folder / cls.FILE
        table = read_table(path, cls.SCHEMA)
        users, lists = column(table, "user", pl.String, path), column(table, "items", pl.List, path)
        items, lengths = lists.explode(), lists.list.len()
        if not users.is_unique().all():
            raise ArtifactError(f"{path} has a user twice")
        known = items.dtype.is_integer() and not items.null_count() and bool((lengths > 0).all())
        if not known or not bool(((items >= 0) & (items < n_items)).all()):
            raise ArtifactError(f"{path}: 'items' must be rows of {CatalogueFile.FILE}")
        indptr = np.concatenate([[0], np.cumsum(lengths.to_numpy().astype(np.int64))])
        weights = None
        if "weights" in table.columns:
            given = column(table, "weights", pl.List, path)
            flat = given.explode()
            fits = flat.dtype.is_float() and bool((given.list.len() == lengths).all())
            if not fits or flat.null_count() or not bool((flat.is_finite() & (flat > 0)).all()):
                raise ArtifactError(f"{path}: 'weights' must be numbers above 0, one for each item")
            weights = flat.to_numpy().astype(np.float32)
        return cls(users.to_list(), indptr, items.to_numpy().astype(np.int64), weights)
