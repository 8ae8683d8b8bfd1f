"""Any tables in files: one of interactions, and mostly one of items."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from fedpeft.data.columns import interactions_of, items_of
from fedpeft.data.config import DataConfig
from fedpeft.data.raw import RawTables
from fedpeft.data.readers import files, readers
from fedpeft.data.readers.formats import ENDINGS, EXPECTED, read_table
from fedpeft.errors import ConfigError, DataError


class TableReader:
    """Reads tables whose columns have usual names, or those of `DataConfig.columns`.

    The interactions are ``interactions.*`` or the only table besides ``items.*``; a single file is
    the interactions.  Without a table of items the catalogue is made of their ids.
    """

    expects: ClassVar[str] = f"interactions, and items if there are any, each as {EXPECTED}"
    settings: ClassVar[frozenset[str]] = frozenset({"columns", "interactions", "items_file"})

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def recognises(self, folder: Path) -> bool:
        """Return whether a table of interactions is there, or was named in the configuration."""
        return bool(self._config.interactions or _interactions(folder))

    def has_items(self, source: Path) -> bool:
        """Return whether there is a table of items."""
        return self._places(source)[1] is not None

    def read(self, source: Path) -> RawTables:
        """Read the tables of a folder, or a file of interactions."""
        path, items_path = self._places(source)
        interactions, notes = interactions_of(read_table(path), self._config)
        items = None
        if items_path is not None:
            items = items_of(read_table(items_path), self._config)
        elif source.is_dir() and len(others := _tables(source)) > 1:
            unread = ", ".join(other.name for other in others if other != path)
            notes += (f"not read: {unread}; data.items_file names a file of items",)
        return RawTables(
            name=source.name if source.is_dir() else source.name.partition(".")[0],
            interactions=interactions,
            items=items,
            interactions_path=path,
            items_path=items_path or path,
            notes=notes,
        )

    def _places(self, source: Path) -> tuple[Path, Path | None]:
        """Return the files of interactions and of items."""
        named, named_items = self._config.interactions, self._config.items_file
        if source.is_dir():
            path = _named(source, named) if named else _one(source, "interactions")
            items = _candidates(source, "items")
            if named_items or not items:
                return path, _named(source, named_items) if named_items else None
            return path, _one(source, "items")
        if named:
            raise ConfigError(
                f"data.interactions = {named!r} would not act: data.source is a file, {source}"
            )
        path = _named(source.parent, source.name)
        return path, _named(source.parent, named_items) if named_items else None


def _tables(folder: Path) -> list[Path]:
    """Return all tables of a folder."""
    return sorted(p for p in folder.iterdir() if _is_table(p.name) and p.is_file())


def _candidates(folder: Path, stem: str) -> list[Path]:
    return files.find(folder, [f"{stem}{ending}" for ending in ENDINGS])


def _interactions(folder: Path) -> list[Path]:
    """Return the tables of a folder that may be the interactions."""
    if found := _candidates(folder, "interactions"):
        return found
    items = _candidates(folder, "items")
    others = [path for path in _tables(folder) if path not in items]
    return others if len(others) == 1 else []


def _one(folder: Path, stem: str) -> Path:
    found = _interactions(folder) if stem == "interactions" else _candidates(folder, stem)
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder} must hold one {stem} file ({EXPECTED}), not {there}")
    return found[0]


def _named(folder: Path, name: str) -> Path:
    if not _is_table(name):
        raise DataError(f"{folder / name} must end in one of {EXPECTED}")
    return folder / name


def _is_table(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


readers.register("table", config=DataConfig, build=TableReader)
