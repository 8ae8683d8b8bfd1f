"""RecBole's atomic files: ``*.inter`` and ``*.item``, tab-separated, with typed column names.

Source: W. X. Zhao et al., "RecBole: Towards a unified, comprehensive and efficient framework for
recommendation algorithms", CIKM 2021.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from fedpeft.data.columns import interactions_of, items_of
from fedpeft.data.config import DataConfig
from fedpeft.data.raw import RawTables
from fedpeft.data.readers import readers
from fedpeft.data.readers.delimited import delimited
from fedpeft.data.values import Table
from fedpeft.errors import DataError

_TYPES = {"token": True, "token_seq": True, "float": False, "float_seq": False}
"""Whether a type is text."""


class RecBoleReader:
    """Reads the columns that `DataConfig.columns` names, without the types in their names.

    The column ``rating`` is read if it is there.  If the title column is not there, the first text
    column with "title" or "name" in its name is, else the id.
    """

    expects: ClassVar[str] = "one *.inter and one *.item file"
    settings: ClassVar[frozenset[str]] = frozenset({"columns"})

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def recognises(self, folder: Path) -> bool:
        """Return whether both files are there."""
        return all(_named(folder, ending) for ending in (".inter", ".item"))

    def read(self, folder: Path) -> RawTables:
        """Read both files."""
        columns = self._config.columns
        interactions, _ = _atomic(_only(folder, ".inter"))
        items, texts = _atomic(_only(folder, ".item"))
        named = [name for name in texts if "title" in name or "name" in name]
        title = next((name for name in (columns.title, *named) if name in texts), columns.item)
        rating = columns.rating or ("rating" if "rating" in interactions.frame.columns else None)
        timestamp = columns.timestamp if self._config.order == "time" else None
        text = columns.text or tuple(name for name in texts if name != columns.item)
        used = {"title": title, "rating": rating, "timestamp": timestamp, "text": text}
        columns = columns.model_copy(update=used)
        times = (columns.timestamp, columns.position, columns.rating)
        interactions.require(filter(None, (columns.user, columns.item, *times)))
        items.require((columns.item, columns.title, *columns.text))
        config = self._config.model_copy(update={"columns": columns})
        found, notes = interactions_of(interactions, config)
        return RawTables(
            folder.name,
            found,
            items_of(items, config),
            interactions.path,
            items.path,
            notes=notes,
        )


def _named(folder: Path, ending: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ending)


def _only(folder: Path, ending: str) -> Path:
    found = _named(folder, ending)
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder} must hold one *{ending} file, not {there}")
    return found[0]


def _atomic(path: Path) -> tuple[Table, list[str]]:
    """Return a file's table under plain column names, and the names of its text columns."""
    table = delimited(path, ("\t",), quoted=False)
    if table.frame.height == 0:
        raise DataError(f"{path} has no rows")
    texts = []
    plain = {}
    for column in table.frame.columns:
        name, _, kind = column.rpartition(":")
        if not name or kind not in _TYPES:
            raise DataError(
                f"{path}, line 1 names a column {column!r}; a name is followed by a colon and one "
                f"of the types {', '.join(_TYPES)}"
            )
        plain[column] = name
        if _TYPES[kind]:
            texts.append(name)
    return Table(path, table.frame.rename(plain), table.lines), texts


readers.register("recbole", config=DataConfig, build=RecBoleReader)
