"""Any pair of tables as CSV, TSV, JSON lines or Parquet: ``interactions.*`` and ``items.*``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import polars as pl

from fedpeft.data.config import ColumnsConfig, DataConfig
from fedpeft.data.raw import RawTables
from fedpeft.data.readers import files, readers
from fedpeft.data.readers.formats import ENDINGS, EXPECTED, read_table
from fedpeft.data.values import Table
from fedpeft.errors import DataError


class TableReader:
    """Reads tables whose columns are named in `DataConfig.columns`."""

    expects: ClassVar[str] = f"interactions and items as {EXPECTED}"
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
        used = (names.user, names.item, timestamp, names.position, names.rating)
        return raw_tables(
            folder.name,
            read_table(
                _path(folder, self._config.interactions, "interactions"), [*filter(None, used)]
            ),
            read_table(
                _path(folder, self._config.items_file, "items"),
                [names.item, names.title, *names.text],
                texts=not names.text,
            ),
            names.model_copy(update={"timestamp": timestamp}),
        )


def raw_tables(name: str, interactions: Table, items: Table, columns: ColumnsConfig) -> RawTables:
    """Take what `columns` names out of two tables; without times if it names none.

    Raises
    ------
    DataError
        If a column is absent, or holds what its role does not allow.
    """
    used = {"user": interactions.ids(columns.user), "item": interactions.ids(columns.item)}
    if columns.timestamp:
        used["timestamp"] = interactions.times(columns.timestamp)
    if columns.position:
        used["position"] = interactions.numbers(columns.position)
    if columns.rating:
        used["rating"] = interactions.numbers(columns.rating, optional=True).cast(pl.Float64)
    ids = items.ids(columns.item)
    text = columns.text or [each for each in items.text_columns() if each != columns.item]
    title = items.words(columns.title)
    return RawTables(
        name=name,
        interactions=pl.DataFrame(used),
        items=pl.DataFrame(
            {
                "id": ids,
                "title": pl.select(pl.coalesce(title, ids)).to_series(),
                "text": items.texts(text),
            }
        ),
        interactions_path=interactions.path,
        items_path=items.path,
    )


def _candidates(folder: Path, stem: str) -> list[Path]:
    return files.find(folder, [f"{stem}{ending}" for ending in ENDINGS])


def _path(folder: Path, named: str | None, stem: str) -> Path:
    if named:
        if not named.lower().endswith(ENDINGS):
            raise DataError(f"{folder / named} must end in one of {EXPECTED}")
        return folder / named
    found = _candidates(folder, stem)
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder} must hold one {stem} file ({EXPECTED}), not {there}")
    return found[0]


readers.register("table", config=DataConfig, build=TableReader)
