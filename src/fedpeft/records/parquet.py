"""Parquet files of run folders: written whole, with their schema, and read without trust."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from fedpeft.errors import ArtifactError
from fedpeft.files import atomic_path
from fedpeft.records.base import check_schema, schema_in

_KEY = "fedpeft.schema"


def write_table(table: pl.DataFrame, path: Path, schema: int, *, private: bool = False) -> None:
    """Write a table atomically; with `private`, for its owner alone."""
    with atomic_path(path, private=private) as temporary:
        table.write_parquet(temporary, metadata={_KEY: str(schema)})


def read_table(path: Path, newest: int) -> pl.DataFrame:
    """Read a table of a schema up to `newest`.

    Raises
    ------
    ArtifactError
        If it is missing, damaged, or of a later schema.
    """
    if not path.exists():
        raise ArtifactError(f"{path} does not exist")
    if not path.is_file():
        raise ArtifactError(f"{path} is a folder, not a Parquet file")
    try:
        told = pl.read_parquet_metadata(path).get(_KEY, "1")
        check_schema(schema_in(told), newest, f"{path}")
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ArtifactError(f"{path} is not a readable Parquet file: {reason}") from None


def column(table: pl.DataFrame, name: str, dtype: type[pl.DataType], path: Path) -> pl.Series:
    """Return a column without gaps; raises `ArtifactError` where it is none, or of another type."""
    if name not in table.columns:
        raise ArtifactError(f"{path} has no column {name!r}")
    found = table[name]
    if not isinstance(found.dtype, dtype) or found.null_count():
        raise ArtifactError(f"{path}: {name!r} must be of type {dtype.__name__}, without gaps")
    return found
