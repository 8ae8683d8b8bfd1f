"""Any pair of CSV, TSV or Parquet files: ``interactions.*`` and ``items.*``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import polars as pl

from fedpeft.data.config import DataConfig
from fedpeft.data.raw import RawTables
from fedpeft.data.readers import files, readers
from fedpeft.errors import DataError

ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
"""How the names of tables end."""


class TableReader:
    """Reads tables whose columns are named in `DataConfig.columns`."""

    expects: ClassVar[str] = f"interactions and items, each as {', '.join(ENDINGS)}"
    settings: ClassVar[frozenset[str]] = frozenset({"columns", "interactions", "items_file"})

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def recognises(self, folder: Path) -> bool:
        """Return whether both files are there, or were named in the configuration."""
        return all(
            named or _candidates(folder, stem)
            for named, stem in (
                (self._config.interactions, "interactions"),
                (self._config.items_file, "items"),
            )
        )

    def read(self, folder: Path) -> RawTables:
        """Read both tables."""
        names = self._config.columns
        timestamp = names.timestamp if self._config.order == "time" else None
        interactions_path = _path(folder, self._config.interactions, "interactions")
        table = read_table(interactions_path)
        used = [names.user, names.item, timestamp, names.position, names.rating]
        files.require(table, filter(None, used), interactions_path)
        interactions = pl.DataFrame(
            {
                "user": table[names.user].cast(pl.String),
                "item": table[names.item].cast(pl.String),
            }
        )
        if timestamp:
            times = files.numbers(table, timestamp, interactions_path)
            interactions = interactions.with_columns(timestamp=times)
        if names.position:
            positions = files.numbers(table, names.position, interactions_path)
            interactions = interactions.with_columns(position=positions)
        if names.rating:
            rating = files.numbers(table, names.rating, interactions_path, optional=True)
            interactions = interactions.with_columns(rating=rating.cast(pl.Float64))
        items_path = _path(folder, self._config.items_file, "items")
        return RawTables(
            name=folder.name,
            interactions=interactions,
            items=self._items(items_path),
            interactions_path=interactions_path,
            items_path=items_path,
        )

    def _items(self, path: Path) -> pl.DataFrame:
        names = self._config.columns
        table = read_table(path)
        files.require(table, (names.item, names.title, *names.text), path)
        text = names.text or [
            name
            for name, dtype in table.schema.items()
            if name != names.item and isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
        ]
        ids = table[names.item].cast(pl.String)
        title = table[names.title].cast(pl.String)
        return pl.DataFrame(
            {
                "id": ids,
                "title": pl.select(pl.coalesce(title, ids)).to_series(),
                "text": files.joined(table, text),
            }
        )


def _candidates(folder: Path, stem: str) -> list[Path]:
    return [path for ending in ENDINGS if (path := folder / f"{stem}{ending}").is_file()]


def _path(folder: Path, named: str | None, stem: str) -> Path:
    if named:
        if not named.endswith(ENDINGS):
            raise DataError(f"{folder / named} must end in one of {', '.join(ENDINGS)}")
        return folder / named
    found = _candidates(folder, stem)
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder} must hold one {stem} file ({', '.join(ENDINGS)}), not {there}")
    return found[0]


def read_table(path: Path) -> pl.DataFrame:
    """Read a table, which its name says the kind of; raises `DataError` where it has no rows."""
    if path.suffix != ".parquet":
        separator = "\t" if ".tsv" in path.suffixes else ","
        table = files.delimited(path, files.content(path), separator=separator)
    else:
        try:
            table = pl.read_parquet(path, glob=False)
        except FileNotFoundError:
            raise DataError(f"{path} does not exist") from None
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{path} is not a readable Parquet file: {reason}") from None
    if table.height == 0:
        raise DataError(f"{path} has no rows")
    return table


readers.register("table", config=DataConfig, build=TableReader)
