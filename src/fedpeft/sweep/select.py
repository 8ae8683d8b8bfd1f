"""Choosing cells by their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedpeft.errors import ConfigError
from fedpeft.sweep.cell import Cell


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
    pairs = list(dict.fromkeys(pair for cell in cells for pair in _all(cell).items()))
    pairs.sort(key=lambda pair: list(_all(cells[0])).index(pair[0]))  # axis by axis
    fitting = [(a, label) for a, label in pairs if text == f"{a}={label}"]
    fitting = fitting or [(a, label) for a, label in pairs if text == label and a != "seed"]
    if len(fitting) > 1:
        raise ConfigError(
            f"--only {text} is a label of {' and of '.join(a for a, _ in fitting)}; write "
            f"{fitting[0][0]}={text}"
        )
    if not fitting:
        known = ", ".join(_sample(list(dict.fromkeys(x for a, x in pairs if a != "seed"))))
        raise ConfigError(f"--only {text}: no cell has this label; there are {known}")
    return fitting[0]


def _sample(labels: Sequence[str], most: int = 12) -> Iterator[str]:
    yield from labels[:most]
    if len(labels) > most:
        yield f"and {len(labels) - most} more"
