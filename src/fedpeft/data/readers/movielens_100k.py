"""MovieLens 100K: ``u.data``, ``u.item`` and ``u.genre``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import polars as pl

from fedpeft.data.config import DataConfig
from fedpeft.data.raw import RawTables
from fedpeft.data.readers import files, readers
from fedpeft.data.readers.delimited import delimited
from fedpeft.data.values import Table, joined
from fedpeft.errors import DataError


class MovieLens100KReader:
    """Reads the original files; a film's genre flags become words of its text."""

    expects: ClassVar[str] = "u.data, u.item and u.genre"
    settings: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: DataConfig) -> None:
        del config  # the format leaves nothing to choose

    def recognises(self, folder: Path) -> bool:
        """Return whether the three files are there."""
        return all((folder / name).is_file() for name in ("u.data", "u.item", "u.genre"))

    def read(self, folder: Path) -> RawTables:
        """Read ratings (tab-separated) and films (``|``-separated, Latin-1 or UTF-8)."""
        path = folder / "u.data"
        header = ("user", "item", "rating", "timestamp")
        table = delimited(path, ("\t",), header=header, quoted=False)
        return RawTables(
            name=folder.name,
            interactions=ratings(table),
            items=_films(folder / "u.item", _genres(folder / "u.genre")),
            interactions_path=path,
            items_path=folder / "u.item",
        )


def ratings(table: Table, user: str = "user", item: str = "item") -> pl.DataFrame:
    """Check the four columns that all MovieLens rating files have."""
    return pl.DataFrame(
        {
            "user": table.ids(user),
            "item": table.ids(item),
            "timestamp": table.numbers("timestamp"),
            "rating": table.numbers("rating").cast(pl.Float64),
        }
    )


def films(ids: list[str], titles: list[str], genres: list[str]) -> pl.DataFrame:
    """Make the items table from ids, titles and ``|``-separated genres."""
    table = pl.DataFrame(
        {"id": ids, "title": titles, "genres": genres},
        schema={"id": pl.String, "title": pl.String, "genres": pl.String},
    )
    return table.select("id", "title", text=joined(table, ("title", "genres")))


def _genres(path: Path) -> list[str]:
    rows = files.fields(path, "|", 2)
    if [row[1] for row in rows] != [str(place) for place in range(len(rows))]:
        raise DataError(f"{path} must number its genres 0, 1, 2, ... line by line")
    return [row[0] for row in rows]


def _films(path: Path, genres: list[str]) -> pl.DataFrame:
    rows = files.fields(path, "|", 5 + len(genres))
    for number, row in enumerate(rows, 1):
        if not set(row[5:]) <= {"0", "1"}:
            raise DataError(f"{path}, film {number}: genre flags must be 0 or 1")
    return films(
        [row[0] for row in rows],
        [row[1] for row in rows],
        [
            "|".join(g for g, flag in zip(genres, row[5:], strict=True) if flag == "1")
            for row in rows
        ],
    )


readers.register("movielens_100k", config=DataConfig, build=MovieLens100KReader)
