"""Readers: one file per format, one registration each.

A reader's module ends in ``readers.register("my_format", config=DataConfig, build=MyReader)``;
another package adds one through an entry point of the group ``fedpeft.data_readers``.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Protocol

from fedpeft.data.raw import RawTables
from fedpeft.registry import Registry


class Reader(Protocol):
    """Reads one on-disk format; built from the `DataConfig`.

    One that goes by some only of the keys `columns`, `interactions` and `items_file` names these in
    a class attribute ``settings``, a set; the others are refused then.  One whose data may come
    without items has a method ``has_items(source)``, which tells it without reading them.
    """

    expects: ClassVar[str]
    """The files a folder of this format holds, for messages."""

    def recognises(self, folder: Path) -> bool:
        """Return whether the files of this format are in `folder`; reads none of them."""
        ...

    def read(self, folder: Path) -> RawTables:
        """Read the files as they stand; raises `DataError` with file and line or row."""
        ...


readers: Registry[Reader] = Registry(
    "data reader",
    "data_readers",
    builtin=(
        "fedpeft.data.readers.amazon_2018",
        "fedpeft.data.readers.amazon_2023",
        "fedpeft.data.readers.movielens_100k",
        "fedpeft.data.readers.movielens_1m",
        "fedpeft.data.readers.movielens_latest",
        "fedpeft.data.readers.recbole",
        "fedpeft.data.readers.table",
    ),
)

__all__ = ["RawTables", "Reader", "readers"]
