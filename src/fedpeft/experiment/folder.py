"""The run folder: everything one run wrote."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedpeft.errors import ConfigError
from fedpeft.experiment.config import RunConfig
from fedpeft.experiment.resolution import resolve
from fedpeft.foreign import require_plain
from fedpeft.lock import LOCK, locked
from fedpeft.records import Checkpoint, ConfigFile, Evaluation, Log, Result, TrafficRound
from fedpeft.records.toml import to_toml


class RunFolder:
    """Paths and logs of a run folder.

    Log lines are kept in memory until `flush`, which comes before each checkpoint; so a run that
    was killed has in its logs what its checkpoint remembers, and `rewind` cuts off what is more.

    Attributes
    ----------
    metrics, traffic
        The logs.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path = Path(path)
        self.metrics = Log(Evaluation, path)
        self.traffic = Log(TrafficRound, path)

    @classmethod
    def create(
        cls, path: Path | str, config: RunConfig, asked: RunConfig | None = None
    ) -> RunFolder:
        """Start a new run folder; raises `ConfigError` as `require_new` does.

        Parameters
        ----------
        config
            What the run uses, every value that depends on the data as a number.
        asked
            The same before the data were seen.
        """
        cls.require_new(path)
        folder = cls(path)
        folder.configure(config, asked or config)
        return folder

    @staticmethod
    def require_new(path: Path | str) -> None:
        """Raise `ConfigError` when `path` holds something already or cannot be made."""
        path = Path(path)
        if path.is_dir() and any(there.name != LOCK for there in path.iterdir()):
            raise ConfigError(
                f"{path} exists and is not empty; choose another --out, or --resume {path}"
            )
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        if not there.is_dir():
            raise ConfigError(f"{path} cannot be a run folder because {there} is a file")
        if not os.access(there, os.W_OK | os.X_OK):
            raise ConfigError(f"{path} cannot be a run folder because {there} cannot be written to")

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Open an existing run folder; raises `ArtifactError` when it is none, or is not plain."""
        ConfigFile.require(Path(path))
        require_plain(Path(path))
        return cls(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working here; a folder that stays empty is removed.

        Raises
        ------
        ArtifactError
            If another process works here.
        """
        made = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self.path):
                yield
        finally:
            if made:
                with suppress(OSError):
                    self.path.rmdir()

    def configure(self, config: RunConfig, asked: RunConfig) -> None:
        """Write the configuration; of a run that has begun, it may say where its data lie now."""
        for name, each in ((ConfigFile.ASKED, asked), (ConfigFile.FILE, config)):
            values = each.to_file()
            if resolve(tomllib.loads(to_toml(values))) != each:  # TOML has no null
                raise ConfigError(
                    "a setting is None where its default is not, which TOML cannot hold"
                )
            ConfigFile.write(self.path, values, name)

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's file."""
        return self.path / Checkpoint.FILE

    @property
    def adapter(self) -> Path:
        """The folder of the adapter artifact."""
        return self.path / "adapter"

    @property
    def items(self) -> Path:
        """The folder of the item model."""
        return self.path / "items"

    @property
    def is_complete(self) -> bool:
        """Whether the run has a result."""
        return (self.path / Result.FILE).exists()

    def config(self) -> RunConfig:
        """Return the configuration that the run uses."""
        return resolve(ConfigFile.read(self.path))

    def asked(self) -> RunConfig:
        """Return the configuration as it was before the data were seen.

        Runs of earlier versions have one configuration for both.
        """
        if not (self.path / ConfigFile.ASKED).exists():
            return self.config()
        return resolve(ConfigFile.read(self.path, ConfigFile.ASKED))

    def flush(self) -> None:
        """Put pending log lines on the disk."""
        self.metrics.flush()
        self.traffic.flush()

    def rewind(self, rounds: int, evaluations: int) -> list[str]:
        """Cut the logs back to what they had after so many rounds; return what they have lost.

        Parameters
        ----------
        evaluations
            How many evaluations these rounds had.
        """
        lost = []
        for log, wanted in ((self.traffic, rounds), (self.metrics, evaluations)):
            left = log.rewind(rounds)
            if left < wanted:
                lost.append(
                    f"{log.path} has lost {wanted - left} of its {wanted} lines, perhaps when the "
                    "power failed; the run goes on without them"
                )
        return lost

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
