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
from fedpeft.experiment import RunConfig, resolve
from fedpeft.files import fingerprint
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
    "curve",
)
RESERVED_TABLES = ("validation", "test", "floor", "bytes", "dataset")
"""Columns of the results table that no axis may be called, and what others begin with."""

_ABSENT = object()

MOST = 100_000
"""Combinations that the axes may have; each is resolved and has a row in the table."""

Labels = Mapping[str, str]
"""One label per axis."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One configuration of a grid with one seed.

    Attributes
    ----------
    source
        ``data.source`` as the grid file has it; in `config` it is a whole path.
    """

    labels: Labels
    config: RunConfig
    source: str

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
        return fingerprint(json.dumps(values, sort_keys=True))[:16]


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

        Raises
        ------
        ConfigError
            If a cell's settings are not a run's; the sentence names file and cell.
        """
        return [
            self.cell(labels, {**settings, "seed": seed})
            for seed in self.file.seeds
            for labels, settings in self.settings
        ]

    def cell(self, labels: Labels, settings: Mapping[str, Any]) -> Cell:
        """Resolve one cell."""
        try:
            return resolve_cell(labels, settings, self.data)
        except InputError as error:
            name = ", ".join(f"{axis}={label}" for axis, label in labels.items())
            raise type(error)(f"{self.path}{name and ', cell '}{name}: {error}") from None


def resolve_cell(labels: Labels, settings: Mapping[str, Any], data: Path) -> Cell:
    """Resolve a cell; relative data folders lie in the folder `data`."""
    config = resolve(settings)
    source = config.data.source
    if source == "synthetic":
        return Cell(labels, config, source)
    folder = data / Path(source).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"data.source = {source!r} is neither 'synthetic' nor a folder in {data}; --data names "
            "the folder that the data sets are in"
        )
    table = {**settings["data"], "source": str(folder.resolve())}
    return Cell(labels, resolve({**settings, "data": table}), source)


def read_grid(path: Path, data: Path) -> Grid:
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
            _require_axes(extra.labels, axes, f"extra.{number}.labels")
            for name, label in extra.labels.items():
                if label not in known[name]:
                    known[name].append(label)
            found += [
                (labels, merge(settings, extra.settings))
                for labels, settings in _product(axes, extra.labels, file.base)
            ]
        for number, pattern in enumerate(file.exclude):
            _require_axes(pattern, axes, f"exclude.{number}")
            kept = [cell for cell in found if not _fits(cell[0], pattern)]
            if len(kept) == len(found):
                raise ConfigError(f"exclude.{number} fits no cell")
            found = kept
        _check(file, known, found)
        _check_values(file, axes, found)
        _check_search(file, axes)
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


def _require_axes(labels: Mapping[str, Any], axes: Mapping[str, Any], where: str) -> None:
    for name in labels:
        if name not in axes:
            raise ConfigError(f"{where}: {name!r} is no axis; axes are {', '.join(axes)}")


def _fits(labels: Labels, pattern: Mapping[str, str | list[str]]) -> bool:
    """Return whether each axis of a pattern has one of the labels it names."""
    return all(
        any(_matches(labels[name], each) for each in ([some] if isinstance(some, str) else some))
        for name, some in pattern.items()
    )


def _matches(label: str, pattern: str) -> bool:
    """Return whether a label fits a pattern, in which * stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), label, re.S) is not None


def _check(
    file: GridConfig,
    axes: Mapping[str, Sequence[str]],
    cells: Sequence[tuple[Labels, Mapping[str, Any]]],
) -> None:
    """Raise `ConfigError` where the parts of a file contradict each other."""
    if not cells:
        raise ConfigError("exclude leaves no cell")
    seen: set[tuple[str, ...]] = set()
    for labels, settings in cells:
        if tuple(labels.values()) in seen:
            raise ConfigError(f"two cells are called {dict(labels)}; give the extra one new labels")
        seen.add(tuple(labels.values()))
        if "seed" in settings:
            raise ConfigError("seed: list the seeds in seeds, at the top of the file")
    if file.compare is not None:
        _require_axes({file.compare.axis: ""}, axes, "compare.axis")
        labels_there = axes[file.compare.axis]
        if file.compare.reference not in labels_there:
            raise ConfigError(
                f"compare.reference = {file.compare.reference!r}: must be a label of "
                f"{file.compare.axis}, which has {', '.join(labels_there)}"
            )
        if all(labels[file.compare.axis] != file.compare.reference for labels, _ in cells):
            raise ConfigError(
                f"compare.reference = {file.compare.reference!r}: exclude leaves no cell of it"
            )


def _check_values(
    file: GridConfig,
    axes: Mapping[str, Mapping[str, Any]],
    cells: Sequence[tuple[Labels, Mapping[str, Any]]],
) -> None:
    """Raise `ConfigError` where a cell has not the value that it is labelled with."""
    keys = [name for name, axis in file.axes.items() if isinstance(axis, list)]
    for labels, settings in cells:
        for key in keys:
            own = axes[key].get(labels[key])
            if own is not None and _value(settings, key) != _value(own, key):
                raise ConfigError(
                    f"the cell {dict(labels)} has {key} = {_value(settings, key)!r}, as another "
                    "axis or extra sets it too; drop one of them"
                )


def _check_search(file: GridConfig, axes: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `ConfigError` for a search of what the rest of the file says."""
    if file.search is None:
        return
    if file.compare is not None:
        raise ConfigError("search and compare do not go together; drop one of them")
    for key in file.search.spaces():
        if key == "seed":
            raise ConfigError("search.keys.seed: list the seeds in seeds, at the top of the file")
        if key.partition(".")[0] in ("data", "evaluation"):
            raise ConfigError(
                f"search.keys.{key}: how runs are measured, and on what, cannot be searched for"
            )
        for name, labels in axes.items():
            if name == key or any(_has(settings, key) for settings in labels.values()):
                raise ConfigError(f"search.keys.{key}: the axis {name} sets it; drop one of them")


def _has(settings: Any, key: str) -> bool:
    """Return whether tables have a dotted key."""
    return _value(settings, key) is not _ABSENT


def _value(settings: Any, key: str) -> Any:
    """Return what tables have at a dotted key."""
    for part in key.split("."):
        if not isinstance(settings, Mapping) or part not in settings:
            return _ABSENT
        settings = settings[part]
    return settings
