"""The values that a search chooses among: numbers in a range, or choices."""

from __future__ import annotations

from typing import Any

from fedpeft.sweep.file import ChoicesConfig, RangeConfig

Space = RangeConfig | ChoicesConfig


def ends(space: Space) -> list[Any]:
    """Return the values that stand for all others when a space is checked."""
    if isinstance(space, ChoicesConfig):
        return list(space.choices)
    return [space.low, space.high]


def rounded(value: Any, space: Space) -> Any:
    """Return a value with four digits, which are enough and can be read; it stays in its range."""
    if isinstance(space, ChoicesConfig) or not isinstance(value, float):
        return value
    return min(max(float(f"{value:.4g}"), space.low), space.high)


def suggest(trial: Any, key: str, space: Space) -> None:
    """Let a trial of optuna choose."""
    if isinstance(space, ChoicesConfig):
        trial.suggest_categorical(key, list(space.choices))
    elif isinstance(space.low, int) and isinstance(space.high, int):
        trial.suggest_int(key, space.low, space.high, log=space.log)
    else:
        trial.suggest_float(key, space.low, space.high, log=space.log)
