"""MovieLens 1M (and 10M): ``ratings.dat`` and ``movies.dat``, fields separated by ``::``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from fedpeft.data.config import DataConfig
from fedpeft.data.raw import RawTables
from fedpeft.data.readers import files, readers
from fedpeft.data.readers.delimited import delimited
from fedpeft.data.readers.movielens_100k import films, ratings


class MovieLens1MReader:
    """Reads the original files."""

    expects: ClassVar[str] = "ratings.dat and movies.dat"
    settings: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: DataConfig) -> None:
        del config  # the format leaves nothing to choose

    def recognises(self, folder: Path) -> bool:
        """Return whether both files are there."""
        return (folder / "ratings.dat").is_file() and (folder / "movies.dat").is_file()

    def read(self, folder: Path) -> RawTables:
        """Read ratings and films (1M: Latin-1, 10M: UTF-8)."""
        path = folder / "ratings.dat"
        header = ("user", "item", "rating", "timestamp")
        table = delimited(path, ("::",), header=header, quoted=False)
        rows = files.fields(folder / "movies.dat", "::", 3)
        ids, titles, genres = ([row[place] for row in rows] for place in range(3))
        return RawTables(
            name=folder.name,
            interactions=ratings(table),
            items=films(ids, titles, genres),
            interactions_path=path,
            items_path=folder / "movies.dat",
        )


readers.register("movielens_1m", config=DataConfig, build=MovieLens1MReader)
