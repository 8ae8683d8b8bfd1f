"""From a file, a few everyday options and overrides to a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedpeft.config import merge, override, parse, parse_override, read_toml
from fedpeft.data import DataConfig, Dataset
from fedpeft.data.config import BUILT
from fedpeft.data.load import has_items
from fedpeft.errors import ConfigError, DataError, renamed
from fedpeft.experiment.config import TABLES, RunConfig
from fedpeft.experiment.renames import rename, upgrade, written_earlier
from fedpeft.experiment.resolution import resolve

TEXTLESS: Mapping[str, Any] = {"items": {"base": "random"}}
"""Settings of a run whose items have no texts, where it sets no others."""


@renamed(recipe="preset")
def configure(
    file: Path | str | None = None,
    *,
    data: Path | str | Dataset | None = None,
    backbone: str | None = None,
    adapter: str | None = None,
    mode: str | None = None,
    loss: str | None = None,
    preset: str | None = None,
    rounds: int | None = None,
    seed: int | None = None,
    settings: list[str] | None = None,
) -> RunConfig:
    """Return the configuration of a file with options set over it.

    Parameters
    ----------
    file
        TOML; None starts from the defaults.
    data
        The folder or file of the data, or the data themselves (see `fedpeft.from_tables`).
    backbone, adapter, mode, loss, preset, rounds, seed
        The everyday keys; None leaves the file's.
    settings
        Any other key, as ``table.key=value``.

    Raises
    ------
    ConfigError
        As `fedpeft.experiment.resolve`, or as `gather`.
    """
    dataset = data if isinstance(data, Dataset) else None
    options: dict[str, Any] = {
        "data.source": "memory" if dataset else data and str(data),
        "backbone.kind": backbone,
        "adapter.kind": adapter,
        "adapter.mode": mode,
        "loss.kind": loss,
        "preset": preset,
        "training.rounds": rounds,
        "seed": seed,
    }
    return replace(resolve(gather(file, options, settings, dataset)), dataset=dataset)


def gather(
    file: Path | str | None,
    options: Mapping[str, Any],
    settings: Sequence[str] | None,
    dataset: Dataset | None = None,
) -> dict[str, Any]:
    """Return the tables of a file with options and ``table.key=value`` settings set over them.

    Parameters
    ----------
    options
        Values by dotted key; None leaves the file's.
    dataset
        The data, where they were given in Python.

    Raises
    ------
    ConfigError
        When a setting is malformed, or sets what an option has set already.
    """
    values: dict[str, Any] = {} if file is None else _read(Path(file))
    given = {key: value for key, value in options.items() if value is not None}
    for key, value in given.items():
        override(values, key.split("."), value)
    for text in settings or []:
        path, value = parse_override(text)
        path = rename(path)
        name = ".".join(path)
        twice = next((key for key in given if f"{key}.".startswith(f"{name}.")), None)
        if twice is not None:
            raise ConfigError(
                f"{twice} is given as {given[twice]!r} by its own option and again by --set "
                f"{text}; give one of them"
            )
        override(values, path, value)
    _absolute_source(values)
    return over_textless(values, dataset)


def over_textless(values: dict[str, Any], dataset: Dataset | None = None) -> dict[str, Any]:
    """Return tables over `TEXTLESS`, where the items of their data have no texts to start from.

    Whoever names an encoder has vectors of other origin, or is told that there are no texts.
    """
    items = values.get("items", {})
    if (isinstance(items, Mapping) and "encoder" in items) or _has_texts(values, dataset):
        return values
    return merge(TEXTLESS, values)


def _has_texts(values: Mapping[str, Any], dataset: Dataset | None) -> bool:
    """Return whether the items have texts, as far as that can be told without reading them."""
    if dataset is not None:
        return dataset.has_texts
    table = values.get("data", {})
    if not isinstance(table, Mapping) or table.get("source", "synthetic") in BUILT:
        return True
    try:
        return has_items(parse(DataConfig, table, "data"))
    except DataError:  # reading will tell, once all settings are known to be right
        return True


def _read(file: Path) -> dict[str, Any]:
    """Return the tables of a file by their present names."""
    tables = read_toml(file)
    if written_earlier(tables, TABLES):
        return resolve(tables).to_file()
    return upgrade(tables)


def _absolute_source(values: dict[str, Any]) -> None:
    """Make the path of the data absolute, so that the run folder can be reopened from anywhere."""
    table = values.get("data")
    source = table.get("source") if isinstance(table, dict) else None
    if not isinstance(source, str) or source in (*BUILT, ""):
        return
    folder = Path(source).expanduser()
    if not folder.exists():
        raise DataError(
            f"data.source = {source!r} is neither 'synthetic' nor a folder or a file that "
            "exists; "
            "`fedpeft data list` names what can be downloaded"
        )
    values["data"]["source"] = str(folder.resolve())
