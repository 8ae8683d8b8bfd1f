"""The run folder: everything one run wrote."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedpeft.config import read_toml
from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.experiment.config import RunConfig, resolve
from fedpeft.experiment.toml import to_toml
from fedpeft.files import write_text

LOGS = ("metrics.jsonl", "ledger.jsonl")


class RunFolder:
    """Paths and logs of a run folder.

    Log lines are kept in memory until `flush`, and a checkpoint remembers how long the logs were
    when it was written; so a run that was killed resumes with logs that fit its checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: dict[str, list[str]] = {name: [] for name in LOGS}

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> RunFolder:
        """Start a new run folder; raises `ConfigError` as `require_new` does."""
        cls.require_new(path)
        folder = cls(path)
        folder.configure(config)
        return folder

    @staticmethod
    def require_new(path: Path) -> None:
        """Raise `ConfigError` when `path` holds something already or cannot be made."""
        if path.is_dir() and any(path.iterdir()):
            raise ConfigError(
                f"{path} exists and is not empty; choose another --out, or --resume {path}"
            )
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        if not there.is_dir():
            raise ConfigError(f"{path} cannot be a run folder because {there} is a file")
        if not os.access(there, os.W_OK | os.X_OK):
            raise ConfigError(f"{path} cannot be a run folder because {there} cannot be written to")

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder; raises `ArtifactError` when it is none."""
        if not (path / "config.toml").is_file():
            raise ArtifactError(f"{path} is not a run folder: it has no config.toml")
        return cls(path)

    def configure(self, config: RunConfig) -> None:
        """Write the configuration; of a run that has begun, it may say where its data lie now."""
        text = to_toml(config.to_dict())
        if resolve(tomllib.loads(text)) != config:  # TOML has no null
            raise ConfigError("a setting is None where its default is not, which TOML cannot hold")
        write_text(self.path / "config.toml", text)

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's file."""
        return self.path / "checkpoint" / "state.safetensors"

    @property
    def adapter(self) -> Path:
        """The folder of the adapter artifact."""
        return self.path / "adapter"

    @property
    def items(self) -> Path:
        """The folder of the item model."""
        return self.path / "items"

    @property
    def users(self) -> Path:
        """The file of what each user got."""
        return self.path / "users.parquet"

    @property
    def result(self) -> Path:
        """The file of the final result."""
        return self.path / "result.json"

    def config(self) -> RunConfig:
        """Return the run's configuration."""
        return resolve(read_toml(self.path / "config.toml"))

    def log(self, name: str, line: Mapping[str, Any]) -> None:
        """Add a line to a log; it reaches the disk at the next `flush`."""
        self._pending[name].append(json.dumps(line, sort_keys=True, allow_nan=False) + "\n")

    def flush(self) -> dict[str, int]:
        """Write pending lines; return the length of each log in bytes."""
        lengths = {}
        for name, lines in self._pending.items():
            with (self.path / name).open("a", encoding="utf-8") as log:
                log.writelines(lines)
                lines.clear()
                lengths[name] = log.tell()
        return lengths

    def rewind(self, lengths: Mapping[str, int]) -> None:
        """Cut the logs back to the lengths a checkpoint remembered.

        Raises
        ------
        ArtifactError
            If a log is missing or shorter, so that it is not the one the checkpoint was made with.
        """
        for name in LOGS:
            path = self.path / name
            size = path.stat().st_size if path.exists() else 0
            if size < lengths[name]:
                raise ArtifactError(
                    f"{path} has {size} bytes, the checkpoint was made with {lengths[name]}"
                )
        for name in LOGS:
            with (self.path / name).open("ab") as log:
                log.truncate(lengths[name])

    def sweep(self) -> None:
        """Remove files that a killed process left half-written."""
        for path in self.path.rglob(".*.tmp"):
            path.unlink(missing_ok=True)


def commit() -> str | None:
    """Return the commit of the source tree this package runs from, `-dirty` if it has changes."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if git("ls-files", "--error-unmatch", __file__):
            return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    return None
