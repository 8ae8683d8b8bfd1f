"""The grid file: axes and seeds, expanded to cells with complete, checked configurations."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from fedpeft.config import merge, override, parse, read_toml
from fedpeft.errors import ConfigError, InputError
from fedpeft.sweep.cell import Cell, Labels, resolve_cell
from fedpeft.sweep.check import (
    check_cells,
    check_searched,
    check_values,
    idle_everywhere,
    require_axes,
)
from fedpeft.sweep.file import GridConfig

RESERVED = (
    "seed",
    "status",
    "reason",
    "folder",
    "seconds",
    "peak_memory",
    "commit",
    "version",
    "split",
    "config",
    "rounds",
    "baselines_left_out",
    "curve",
    "gains",
)
RESERVED_TABLES = ("validation", "test", "baseline", "floor", "bytes", "dataset")
"""What columns of the results table begin with, which no axis may be called; ``floor`` was once."""

MOST = 100_000
"""Combinations that the axes may have; each is resolved and has a row in the table."""


@dataclass(frozen=True)
class Grid:
    """A grid file with its cells, seeds outermost, so that every cell soon has a first result."""

    path: Path
    file: GridConfig
    axes: Mapping[str, Sequence[str]]
    """The labels of each axis, those of extra cells behind the file's."""
    settings: Sequence[tuple[Labels, Mapping[str, Any]]]
    """Labels and settings of each cell, without its seed."""
    data: Path

    def cells(self) -> list[Cell]:
        """Resolve every cell with every seed.

        A key that does not act in a cell, such as a refresh of the full table, is dropped there.

        Raises
        ------
        ConfigError
            If a cell's settings are not a run's, the sentence names file and cell; or if a key acts
            in no cell.
        """
        cells = [
            self.cell(labels, {**settings, "seed": seed})
            for seed in self.file.seeds
            for labels, settings in self.settings
        ]
        if (sentence := idle_everywhere(cells, self.settings)) is not None:
            raise ConfigError(f"{self.path}: {sentence}")
        return cells

    def cell(self, labels: Labels, settings: Mapping[str, Any]) -> Cell:
        """Resolve one cell."""
        try:
            return resolve_cell(labels, settings, self.data)
        except InputError as error:
            name = ", ".join(f"{axis}={label}" for axis, label in labels.items())
            raise type(error)(f"{self.path}{name and ', cell '}{name}: {error}") from None


def read_grid(path: Path | str, data: Path | str) -> Grid:
    """Read and check a grid file.

    Parameters
    ----------
    data
        Folder in which relative ``data.source`` folders lie.

    Raises
    ------
    ConfigError
        If the file is missing or malformed; one sentence with file and key.
    """
    path, data = Path(path), Path(data)
    values = read_toml(path)
    try:
        file = parse(GridConfig, values)
        axes = {name: _labels(name, axis) for name, axis in file.axes.items()}
        known = {name: list(labels) for name, labels in axes.items()}
        size = prod(map(len, axes.values()))
        if size > MOST:
            raise ConfigError(f"the axes have {size:,} combinations, more than {MOST:,}")
        found = _product(axes, {}, file.base)
        for number, extra in enumerate(file.extra):
            require_axes(extra.labels, axes, f"extra.{number}.labels")
            for name, label in extra.labels.items():
                if label not in known[name]:
                    known[name].append(label)
            found += [
                (labels, merge(settings, extra.settings))
                for labels, settings in _product(axes, extra.labels, file.base)
            ]
        for number, pattern in enumerate(file.exclude):
            require_axes(pattern, axes, f"exclude.{number}")
            kept = [cell for cell in found if not _fits(cell[0], pattern)]
            if len(kept) == len(found):
                raise ConfigError(f"exclude.{number} fits no cell")
            found = kept
        check_cells(file, known, found)
        check_values(file, axes, found)
        check_searched(file, axes)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Grid(path, file, known, found, data)


def _labels(name: str, axis: Any) -> dict[str, dict[str, Any]]:
    """Return an axis's settings per label."""
    if not isinstance(axis, list | dict):
        raise ConfigError(
            f"axes.{name} = {axis!r}: must be a list of values, or settings per label"
        )
    if name in RESERVED or name.partition(".")[0] in RESERVED_TABLES:
        hint = "list them in seeds" if name == "seed" else "the results table has such a column"
        raise ConfigError(f"axes.{name}: an axis cannot be called {name!r}; {hint}")
    if not axis:
        raise ConfigError(f"axes.{name} has no values")
    if isinstance(axis, dict):
        for label, settings in axis.items():
            if not isinstance(settings, dict):
                raise ConfigError(
                    f"axes.{name}.{label} = {settings!r}: must be a table of settings; a list of "
                    'values belongs to a quoted key, such as "training.rounds" = [100, 200]'
                )
        return axis
    found: dict[str, dict[str, Any]] = {}
    for value in axis:
        label = value if isinstance(value, str) else json.dumps(value)
        if label in found:
            raise ConfigError(f"axes.{name} names {label} twice")
        found[label] = nested(name, value)
    return found


def nested(key: str, value: Any) -> dict[str, Any]:
    """Return the tables in which a dotted key has a value."""
    tables: dict[str, Any] = {}
    override(tables, key.split("."), value)
    return tables


def _product(
    axes: Mapping[str, Mapping[str, Any]], fixed: Labels, base: Mapping[str, Any]
) -> list[tuple[Labels, Mapping[str, Any]]]:
    """Return every combination of labels, those of some axes fixed, with its settings."""
    choices = [[fixed[name]] if name in fixed else list(labels) for name, labels in axes.items()]
    found: list[tuple[Labels, Mapping[str, Any]]] = []
    for combination in product(*choices):
        labels = dict(zip(axes, combination, strict=True))
        settings = dict(base)
        for name, label in labels.items():
            settings = merge(settings, axes[name].get(label, {}))
        found.append((labels, settings))
    return found


def _fits(labels: Labels, pattern: Mapping[str, str | list[str]]) -> bool:
    """Return whether each axis of a pattern has one of the labels it names."""
    return all(
        any(_matches(labels[name], each) for each in ([some] if isinstance(some, str) else some))
        for name, some in pattern.items()
    )


def _matches(label: str, pattern: str) -> bool:
    """Return whether a label fits a pattern, in which * stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), label, re.S) is not None
