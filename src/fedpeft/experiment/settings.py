"""From a file, a few everyday options and overrides to a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedpeft.config import override, parse_override, read_toml
from fedpeft.errors import ConfigError, DataError, renamed
from fedpeft.experiment.config import TABLES, RunConfig
from fedpeft.experiment.renames import rename, upgrade, written_earlier
from fedpeft.experiment.resolution import resolve


@renamed(recipe="preset")
def configure(
    file: Path | None = None,
    *,
    data: str | None = None,
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
    data, backbone, adapter, mode, loss, preset, rounds, seed
        The everyday keys; None leaves the file's.
    settings
        Any other key, as ``table.key=value``.

    Raises
    ------
    ConfigError
        As `fedpeft.experiment.resolve`, or as `gather`.
    """
    options: dict[str, Any] = {
        "data.source": data,
        "backbone.kind": backbone,
        "adapter.kind": adapter,
        "adapter.mode": mode,
        "loss.kind": loss,
        "preset": preset,
        "training.rounds": rounds,
        "seed": seed,
    }
    return resolve(gather(file, options, settings))


def gather(
    file: Path | None, options: Mapping[str, Any], settings: Sequence[str] | None
) -> dict[str, Any]:
    """Return the tables of a file with options and ``table.key=value`` settings set over them.

    Parameters
    ----------
    options
        Values by dotted key; None leaves the file's.

    Raises
    ------
    ConfigError
        When a setting is malformed, or sets what an option has set already.
    """
    values: dict[str, Any] = {} if file is None else _read(file)
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
    return values


def _read(file: Path) -> dict[str, Any]:
    """Return the tables of a file by their present names."""
    tables = read_toml(file)
    if written_earlier(tables, TABLES):
        return resolve(tables).to_file()
    return upgrade(tables)


def _absolute_source(values: dict[str, Any]) -> None:
    """Make the data folder absolute, so that the run folder can be reopened from anywhere."""
    table = values.get("data")
    source = table.get("source") if isinstance(table, dict) else None
    if not isinstance(source, str) or source in ("synthetic", ""):
        return
    folder = Path(source).expanduser()
    if not folder.exists():
        raise DataError(
            f"data.source = {source!r} is neither 'synthetic' nor a folder that exists; "
            "`fedpeft data list` names what can be downloaded"
        )
    values["data"]["source"] = str(folder.resolve())
