"""Tuning: what is searched for a preset, and whether what was found is more than noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedpeft.config import merge
from fedpeft.data import Split
from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.experiment import RunConfig, settle
from fedpeft.files import write_text
from fedpeft.records import Users
from fedpeft.records.toml import to_toml
from fedpeft.records.users import Gains
from fedpeft.report.statistics import CONFIDENCE, Interval, interval_of
from fedpeft.sweep.check import has_key, value_at
from fedpeft.sweep.grid import nested
from fedpeft.sweep.study import Found, Trial
from fedpeft.training.derive import LEAST_EPS, relative_item_decay, server_eps

Range = tuple[float, float]
"""The least and the largest multiple of a value."""

MULTIPLES: Mapping[str, Mapping[str, Range]] = {
    "fedpeft": {
        "training.server_optimizer.lr": (1 / 4, 4),
        "training.sparse_eps": (1 / 8, 8),
        "training.relative_item_decay": (1 / 8, 8),
    },
    "newton": {
        "training.server_optimizer.lr": (0.3, 1.4),
        "training.server_optimizer.prior": (1 / 16, 8),
        "training.frequency_decay": (1 / 8, 8),
        "loss.unobserved_weight": (1 / 4, 4),
    },
    "paper": {
        "training.local_optimizer.lr": (1 / 8, 8),
        "training.payload_optimizer.lr": (1 / 8, 8),
    },
}
"""What a preset leaves to be tuned, as multiples of the value that it has for the data."""

WIDTHS = {"newton": (32, 64, 128, 256)}
"""k, where a preset leaves the width of item vectors to be tuned."""


@dataclass(frozen=True)
class Search:
    """The table ``[search.keys]`` of a grid file, and the values of its first trial."""

    keys: Mapping[str, Mapping[str, Any]]
    start: Mapping[str, Any]


def search_of(values: Mapping[str, Any], asked: RunConfig, split: Split) -> Search:
    """Return what is searched for a configuration; the first trial is the preset as it is.

    What `values` sets stays as it is, and so does what would not act or has no value to multiply.

    Parameters
    ----------
    values
        The tables that were given.
    asked
        What they and the preset come to.

    Raises
    ------
    ConfigError
        If nothing is left to search.
    """
    if asked.preset not in MULTIPLES:
        raise ConfigError(
            f"preset = {asked.preset!r} does not say what is to be tuned; use "
            f"{' or '.join(MULTIPLES)}, or a grid file with [search] and fedpeft sweep"
        )
    keys: dict[str, Mapping[str, Any]] = {}
    start: dict[str, Any] = {}
    resolved = asked.resolved(split)
    for key, (low, high) in MULTIPLES[asked.preset].items():
        value = _value(key, asked, resolved, split)
        if value is not None and not has_key(values, key) and _acts(values, key, value):
            keys[key] = {"low": low * value, "high": high * value, "log": True}
            start[key] = value
    if asked.preset in WIDTHS and not has_key(values, "items.dim"):
        some = {width for width in WIDTHS[asked.preset] if width <= split.n_items}
        widths = {asked.items.dim, *some}
        keys["items.dim"] = {"choices": sorted(widths)}
        start["items.dim"] = asked.items.dim
    if not keys:
        raise ConfigError(
            f"nothing is left to tune for preset = {asked.preset!r}: its "
            f"{', '.join(MULTIPLES[asked.preset])} are set, or do not act on these data"
        )
    return Search(keys, start)


def _value(key: str, asked: RunConfig, resolved: RunConfig, split: Split) -> float | None:
    """Return the value that a preset has for the data; None where there is none above zero."""
    value = value_at(asked.to_dict(), key)
    if key == "training.relative_item_decay" and value == "auto":  # resolved, it is an item decay
        value = relative_item_decay(split.statistics.per_item)
    elif value is None or value == "auto":
        value = value_at(resolved.to_dict(), key)
    if key == "training.sparse_eps" and server_eps(value, split.statistics.density) <= LEAST_EPS:
        return None  # the data are dense
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _acts(values: Mapping[str, Any], key: str, value: float) -> bool:
    """Return whether a key would act if it were set to this."""
    return key not in settle(merge(values, nested(key, value))).idle


def grid_of(
    values: Mapping[str, Any],
    asked: RunConfig,
    search: Search,
    *,
    trials: int,
    ranking: str,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Return a grid file that makes the search: `fedpeft sweep` runs it as well.

    Trials are evaluated at their end alone.
    """
    once = {"evaluation": {"every": max(1, asked.training.rounds)}}
    base = merge(once, {name: table for name, table in values.items() if name != "seed"})
    return {
        "seeds": list(seeds),
        "base": base,
        "search": {
            "trials": trials,
            "ranking": ranking,
            "keys": search.keys,
            "start": search.start,
        },
    }


@dataclass(frozen=True)
class Verdict:
    """Whether settings are better than the preset.

    Attributes
    ----------
    gain
        NDCG@10 on validation against the first trial, paired over the users; its interval allows
        for the best having been chosen among so many trials.
    """

    found: Found
    first: Trial
    gain: Interval

    @property
    def keeps_preset(self) -> bool:
        """Whether nothing was found that is better beyond the noise of users."""
        return self.gain.low is None or self.gain.low <= 0

    @property
    def settings(self) -> Mapping[str, Any]:
        """What to set over the preset."""
        return {} if self.keeps_preset else self.found.best.settings


def judge(found: Found, ranking: str) -> Verdict:
    """Compare the best trial with the first one, user by user.

    The best of t trials gains something by chance alone.  So each of the t - 1 comparisons has an
    interval of its own level, such that all hold together with 95 % (Bonferroni; Dunn 1961).

    Raises
    ------
    ArtifactError
        If what a run kept of its users is missing or damaged.
    """
    assert found.first is not None
    differences = _gains(found.best, ranking) - _gains(found.first, ranking)
    level = 1 - (1 - CONFIDENCE) / max(1, found.trials - 1)
    return Verdict(found, found.first, interval_of(differences, "users", level))


def _gains(trial: Trial, ranking: str) -> Gains:
    """Return each user's gain on validation, mean over the seeds, float64 (users,)."""
    mean: Gains = np.mean([_gains_of(folder, ranking) for folder in trial.folders], axis=0)
    return mean


def _gains_of(folder: Path, ranking: str) -> Gains:
    users = Users.read(folder)
    found = None if users is None else users.gains(folder).get(f"validation.{ranking}.ndcg@10")
    if found is None:
        raise ArtifactError(f"{folder / Users.FILE} has no gains of users; remove the folder")
    return found


def write_grid(file: Path, grid: Mapping[str, Any]) -> Path:
    """Write a grid file into the folder of the runs, which is named after `file`; return it."""
    path = file.with_suffix("") / "search.toml"
    write_text(path, to_toml(grid))
    return path


def write_tuned(
    file: Path, comment: Sequence[str], values: Mapping[str, Any], verdict: Verdict
) -> None:
    """Write a settings file: what was given, but for the place of the data, and what was found."""
    settings: dict[str, Any] = {name: table for name, table in values.items() if name != "seed"}
    if isinstance(data := settings.pop("data", None), Mapping):
        rest = {key: value for key, value in data.items() if key != "source"}
        settings |= {"data": rest} if rest else {}
    for key, value in verdict.settings.items():
        settings = merge(settings, nested(key, value))
    said = "".join(f"# {line}\n" for line in comment)
    write_text(file, said + to_toml(settings))
