"""What the parts of a grid file may not say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedpeft.errors import ConfigError
from fedpeft.sweep.cell import Cell, Labels
from fedpeft.sweep.file import GridConfig

_ABSENT = object()


def require_axes(labels: Mapping[str, Any], axes: Mapping[str, Any], where: str) -> None:
    """Raise `ConfigError` where labels are of what is no axis."""
    for name in labels:
        if name not in axes:
            raise ConfigError(f"{where}: {name!r} is no axis; axes are {', '.join(axes)}")


def check_cells(
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
        require_axes({file.compare.axis: ""}, axes, "compare.axis")
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


def check_values(
    file: GridConfig,
    axes: Mapping[str, Mapping[str, Any]],
    cells: Sequence[tuple[Labels, Mapping[str, Any]]],
) -> None:
    """Raise `ConfigError` where a cell has not the value that it is labelled with."""
    keys = [name for name, axis in file.axes.items() if isinstance(axis, list)]
    for labels, settings in cells:
        for key in keys:
            own = axes[key].get(labels[key])
            if own is not None and value_at(settings, key) != value_at(own, key):
                raise ConfigError(
                    f"the cell {dict(labels)} has {key} = {value_at(settings, key)!r}, as another "
                    "axis or extra sets it too; drop one of them"
                )


def check_searched(file: GridConfig, axes: Mapping[str, Mapping[str, Any]]) -> None:
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
            if name == key or any(has_key(settings, key) for settings in labels.values()):
                raise ConfigError(f"search.keys.{key}: the axis {name} sets it; drop one of them")


def idle_everywhere(
    cells: Sequence[Cell], settings: Sequence[tuple[Labels, Mapping[str, Any]]]
) -> str | None:
    """Return what is wrong with a key that acts in none of the cells that set it, if there is one.

    Parameters
    ----------
    settings
        Labels and settings of the cells of one seed, in their order.
    """
    for key, sentence in {k: s for cell in cells for k, s in cell.idle.items()}.items():
        setting = (
            cell for cell, (_, own) in zip(cells, settings, strict=False) if has_key(own, key)
        )
        if all(key in cell.idle for cell in setting):
            return sentence
    return None


def has_key(settings: Any, key: str) -> bool:
    """Return whether tables have a dotted key."""
    return value_at(settings, key) is not _ABSENT


def value_at(settings: Any, key: str) -> Any:
    """Return what tables have at a dotted key."""
    for part in key.split("."):
        if not isinstance(settings, Mapping) or part not in settings:
            return _ABSENT
        settings = settings[part]
    return settings
