"""``config.toml``: the settings of a run, complete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from fedpeft.config import read_toml
from fedpeft.errors import ArtifactError
from fedpeft.files import write_text
from fedpeft.records.base import check_schema, schema_in
from fedpeft.records.toml import to_toml

_HEADER = re.compile(rb"# fedpeft config, schema (\S+)")


class ConfigFile:
    """The settings of a run, with a comment on top that says the schema.

    The file is a config file like any other, so the schema is none of its keys.  Schema 1 had no
    comment; its keys are read as those of any config file.
    """

    FILE: ClassVar[str] = "config.toml"
    """The settings that the run uses, every value that depends on the data as a number."""
    ASKED: ClassVar[str] = "asked.toml"
    """The same before the data were seen."""
    SCHEMA: ClassVar[int] = 2

    @classmethod
    def write(cls, folder: Path, values: Mapping[str, Any], name: str = FILE) -> None:
        """Write settings into a run folder, atomically."""
        header = f"# fedpeft config, schema {cls.SCHEMA}\n"
        write_text(folder / name, header + to_toml(values))

    @classmethod
    def require(cls, folder: Path) -> None:
        """Raise `ArtifactError` where a folder has no settings."""
        if not (folder / cls.FILE).is_file():
            raise ArtifactError(f"{folder} is not a run folder: it has no {cls.FILE}")

    @classmethod
    def read(cls, folder: Path, name: str = FILE) -> dict[str, Any]:
        """Read the settings of a run folder.

        Raises
        ------
        ArtifactError
            If the folder has none, or they are of a later schema.
        ConfigError
            If they are not TOML.
        """
        cls.require(folder)
        path = folder / name
        values = read_toml(path)
        if found := _HEADER.match(path.read_bytes()):
            check_schema(schema_in(found[1].decode()), cls.SCHEMA, f"{path}")
        return values
