"""Names of earlier versions, which are accepted for one release."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from fedpeft.errors import ConfigError, RenamedWarning

KEYS: Mapping[str, str] = {
    "recipe": "preset",
    "training.private": "training.local",
    "training.private_steps": "training.local_steps",
    "training.private_optimizer": "training.local_optimizer",
    "training.private_schedule": "training.local_schedule",
    "training.private_halving": "training.local_halving",
    "training.private_decay": "training.local_decay",
    "loss.alpha0": "loss.unobserved_weight",
    "evaluation.centralised_floor": "evaluation.centralised_baseline",
}
"""Dotted configuration keys, old to new."""

BACKENDS: Mapping[str, str] = {"loop": "sequential", "shared": "fused", "stacked": "vmap"}
"""Values of ``--backend``, old to new."""

_OLD_EPS = 1e-8
_DECAY, _RELATIVE = "training.item_decay", "training.relative_item_decay"


def tell(old: str, new: str) -> None:
    """Warn that something has another name now."""
    warnings.warn(
        f"{old} is called {new} now; the old name works until the next release",
        RenamedWarning,
        stacklevel=3,
    )


def written_earlier(values: Mapping[str, Any], tables: tuple[str, ...]) -> bool:
    """Return whether an earlier version wrote a file, with every key, into a run folder."""
    return "recipe" in values and set(tables) <= set(values)


def upgrade(values: Mapping[str, Any], *, quiet: bool = False) -> dict[str, Any]:
    """Return tables of settings with old names renamed, each told in a `RenamedWarning`.

    Raises
    ------
    ConfigError
        If a key is given by its old name and by its new one.
    """
    found = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    renamed = dict(KEYS)
    if "recipe" in found:  # what is called item_decay now was not there yet
        renamed[_DECAY] = _RELATIVE
    for old, new in renamed.items():
        source, target = _place(found, old), _place(found, new)
        if source is None or target is None or (last := _last(old)) not in source:
            continue
        if _last(new) in target:
            raise ConfigError(f"{old} is called {new} now, and both are given; drop {old}")
        target[_last(new)] = source.pop(last)
        if not quiet:
            tell(old, new)
    if not quiet and "preset" not in found and _last(_DECAY) in (_place(found, _DECAY) or {}):
        warnings.warn(
            f"{_DECAY} is the whole factor now; what earlier versions multiplied by the density is "
            f"{_RELATIVE}",
            RenamedWarning,
            stacklevel=2,
        )
    return found


def open_eps(tables: Mapping[str, Any]) -> None:
    """Leave eps open, in place, where an earlier version wrote its default.

    There `sparse_eps` acted beside it for the server; now an eps that is given is what acts.
    """
    for table in tables["training"].values():
        if isinstance(table, dict) and table.get("eps") == _OLD_EPS:
            del table["eps"]


def rename(path: list[str]) -> list[str]:
    """Return the present name of a key, told in a `RenamedWarning` where it is another one."""
    for old, new in KEYS.items():
        parts = old.split(".")
        if path[: len(parts)] == parts:
            tell(old, new)
            return [*new.split("."), *path[len(parts) :]]
    return path


def _place(tables: dict[str, Any], key: str) -> dict[str, Any] | None:
    """Return the table that a key is in, or would be; None where there is none."""
    *path, _ = key.split(".")
    table = tables.get(path[0]) if path else tables
    return table if isinstance(table, dict) else None


def _last(key: str) -> str:
    return key.rpartition(".")[2]
