"""The grid file: axes and seeds, expanded to cells with complete, checked configurations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from fedpeft.config import ConfigModel, merge, override, parse, read_toml
from fedpeft.errors import ConfigError, InputError
from fedpeft.experiment import RunConfig, resolve
from fedpeft.files import fingerprint

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
)
"""Columns of the results table that no axis may be called."""

Labels = Mapping[str, str]
"""One label per axis."""


class ExtraConfig(ConfigModel):
    """Cells outside the product."""

    labels: dict[str, str]
    """Label per axis; a label of the axis brings its settings along, a new one brings none.  An
    axis that is not named runs over all its labels."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings over those of base and labels."""


class CompareConfig(ConfigModel):
    """What differences are taken against."""

    axis: str
    """Axis whose labels are compared, within every combination of the others."""
    reference: str
    """Label that the others are compared with."""


class RangeConfig(ConfigModel):
    """A searched number."""

    low: float
    """Lowest value; whole numbers at both ends search whole numbers."""
    high: float
    """Highest value."""
    log: bool = False
    """Whether to search on a logarithmic scale."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high <= self.low:
            raise ValueError(f"high ({self.high:g}) must be above low ({self.low:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"low ({self.low:g}) must be above 0 on a logarithmic scale")
        return self


class ChoicesConfig(ConfigModel):
    """A searched choice."""

    choices: tuple[str | int | float | bool, ...] = Field(min_length=1)
    """Values to choose from."""


class SearchConfig(ConfigModel):
    """Search on validation, for every combination of the axes."""

    trials: int = Field(ge=1)
    """Settings tried per combination of the axes; each runs with every seed."""
    seed: int = Field(0, ge=0)
    """Seed of the search."""
    keys: dict[str, dict[str, Any]] = Field(min_length=1)
    """What is searched, by dotted key: ``{low, high, log}`` or ``{choices}``."""

    def spaces(self) -> dict[str, RangeConfig | ChoicesConfig]:
        """Return what each key may be; raises `ConfigError` where a table is neither kind."""
        found: dict[str, RangeConfig | ChoicesConfig] = {}
        for key, table in self.keys.items():
            model: type[RangeConfig | ChoicesConfig] = (
                ChoicesConfig if "choices" in table else RangeConfig
            )
            found[key] = parse(model, table, f"keys.{key}")
        return found


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{list(seeds)} names a seed twice")
    return seeds


class GridConfig(ConfigModel):
    """A grid file."""

    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_distinct)
    ] = (0,)
    """Seeds that every cell runs with."""
    base: dict[str, Any] = Field(default_factory=dict)
    """Settings of a run that all cells share."""
    axes: dict[str, Any] = Field(default_factory=dict)
    """A dotted key with a list of values, or a name with settings per label."""
    extra: tuple[ExtraConfig, ...] = ()
    """Cells outside the product of the axes."""
    exclude: tuple[dict[str, str | list[str]], ...] = ()
    """Label patterns (``*`` stands for anything); a cell that fits all of one table is left out."""
    compare: CompareConfig | None = None
    """What differences are taken against."""
    search: SearchConfig | None = None
    """Search instead of a plain grid."""


@dataclass(frozen=True)
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
        """Return the fingerprint of the configuration, the same wherever the data lie."""
        values = self.config.to_dict()
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
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Grid(path, file, known, found, data)


def _labels(name: str, axis: Any) -> dict[str, dict[str, Any]]:
    """Return an axis's settings per label."""
    if not isinstance(axis, list | dict):
        raise ConfigError(
            f"axes.{name} = {axis!r}: must be a list of values, or settings per label"
        )
    if name in RESERVED:
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
        any(fnmatchcase(labels[name], each) for each in ([some] if isinstance(some, str) else some))
        for name, some in pattern.items()
    )


def _check(
    file: GridConfig,
    axes: Mapping[str, Sequence[str]],
    cells: Sequence[tuple[Labels, Mapping[str, Any]]],
) -> None:
    """Raise `ConfigError` where the parts of a file contradict each other."""
    if not cells:
        raise ConfigError("exclude leaves no cell")
    seen: list[Labels] = []
    for labels, settings in cells:
        if labels in seen:
            raise ConfigError(f"two cells are called {dict(labels)}; give the extra one new labels")
        seen.append(labels)
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


def select(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """Return the cells with certain labels.

    Parameters
    ----------
    only
        ``LABEL`` or ``AXIS=LABEL``; labels of one axis are alternatives, every axis that is named
        must fit.  ``seed=0`` chooses a seed.  Empty: all cells.

    Raises
    ------
    ConfigError
        If no cell has such a label, or two axes have it.
    """
    wanted: dict[str, list[str]] = {}
    for text in only:
        axis, label = _find_label(cells, text)
        wanted.setdefault(axis, []).append(label)
    chosen = [
        cell
        for cell in cells
        if all(label in labels for axis, labels in wanted.items() for label in [_all(cell)[axis]])
    ]
    if not chosen:
        raise ConfigError(f"--only {' '.join(only)}: no cell has all these labels")
    return chosen


def _all(cell: Cell) -> dict[str, str]:
    return {**cell.labels, "seed": str(cell.config.seed)}


def _find_label(cells: Sequence[Cell], text: str) -> tuple[str, str]:
    """Return the axis and the label that `text` means."""
    pairs = dict.fromkeys(pair for cell in cells for pair in _all(cell).items())
    fitting = [(a, label) for a, label in pairs if text == f"{a}={label}"]
    fitting = fitting or [(a, label) for a, label in pairs if text == label and a != "seed"]
    if len(fitting) > 1:
        raise ConfigError(
            f"--only {text} is a label of {' and of '.join(a for a, _ in fitting)}; write "
            f"{fitting[0][0]}={text}"
        )
    if not fitting:
        known = ", ".join(_sample([label for a, label in pairs if a != "seed"]))
        raise ConfigError(f"--only {text}: no cell has this label; there are {known}")
    return fitting[0]


def _sample(labels: Sequence[str], most: int = 12) -> Iterator[str]:
    yield from labels[:most]
    if len(labels) > most:
        yield f"and {len(labels) - most} more"
