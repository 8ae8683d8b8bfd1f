"""MovieLens "latest" (small and full, 20M, 25M, 32M): ``ratings.csv`` and ``movies.csv``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from fedpeft.data.config import DataConfig
from fedpeft.data.raw import RawTables
from fedpeft.data.readers import readers
from fedpeft.data.readers.delimited import delimited
from fedpeft.data.readers.movielens_100k import films, ratings


class MovieLensLatestReader:
    """Reads the original files."""

    expects: ClassVar[str] = "ratings.csv and movies.csv"
    settings: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: DataConfig) -> None:
        del config  # the format leaves nothing to choose

    def recognises(self, folder: Path) -> bool:
        """Return whether both files are there."""
        return (folder / "ratings.csv").is_file() and (folder / "movies.csv").is_file()

    def read(self, folder: Path) -> RawTables:
        """Read ratings and films (UTF-8)."""
        path, items_path = folder / "ratings.csv", folder / "movies.csv"
        table = delimited(path, (",",))
        table.require(("userId", "movieId", "rating", "timestamp"))
        movies = delimited(items_path, (",",))
        movies.require(("movieId", "title", "genres"))
        genres = movies.frame["genres"].fill_null("").replace("(no genres listed)", "")
        return RawTables(
            name=folder.name,
            interactions=ratings(table, "userId", "movieId"),
            items=films(
                movies.ids("movieId").to_list(),
                movies.frame["title"].fill_null("").to_list(),
                genres.to_list(),
            ),
            interactions_path=path,
            items_path=items_path,
        )


readers.register("movielens_latest", config=DataConfig, build=MovieLensLatestReader)
