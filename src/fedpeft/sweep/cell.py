"""A cell of a grid: its labels, and one complete, checked configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpeft.errors import ConfigError
from fedpeft.experiment import RunConfig, over_textless, settle
from fedpeft.files import fingerprint

Labels = Mapping[str, str]
"""One label per axis."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One configuration of a grid with one seed.

    Attributes
    ----------
    source
        ``data.source`` as the grid file has it; in `config` it is a whole path.
    idle
        Keys that are set but do not act in this cell, each with a sentence that says why.
    """

    labels: Labels
    config: RunConfig
    source: str
    idle: Mapping[str, str]

    @property
    def name(self) -> str:
        """Return what messages call the cell."""
        labels = [f"{axis}={label}" for axis, label in self.labels.items()]
        return ", ".join([*labels, f"seed={self.config.seed}"])

    @property
    def hash(self) -> str:
        """Return the fingerprint of the configuration.

        It is the same wherever the data lie, and in later versions with more keys: what a new key
        does by default is what was done before it.
        """
        values = self.config.to_dict(sparse=True)
        values["data"]["source"] = self.source
        # ties went by file before there was a key for them
        ties = values["data"].pop("ties", "seeded")
        if ties == "seeded" and self.config.data.order == "time" and self.source != "synthetic":
            values["data"]["ties"] = ties
        return fingerprint(json.dumps(values, sort_keys=True))[:16]


def resolve_cell(labels: Labels, settings: Mapping[str, Any], data: Path) -> Cell:
    """Resolve a cell; relative data folders lie in the folder `data`."""
    found = settle(settings)
    source = found.run.data.source
    if source == "synthetic":
        return Cell(labels, found.run, source, found.idle)
    folder = data / Path(source).expanduser()
    if not folder.exists():
        raise ConfigError(
            f"data.source = {source!r} is neither 'synthetic' nor a folder or a file in {data}; "
            "--data names the folder that the data sets are in"
        )
    table = {**settings["data"], "source": str(folder.resolve())}
    found = settle(over_textless({**settings, "data": table}))
    return Cell(labels, found.run, source, found.idle)
