"""The sweep folder: its lock, its run folders, what is known of each."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fedpeft.errors import ArtifactError, ConfigError, FedpeftError
from fedpeft.experiment import RunConfig, RunFolder
from fedpeft.files import read_json, write_json
from fedpeft.foreign import require_plain
from fedpeft.lock import locked
from fedpeft.records import ConfigFile
from fedpeft.records.sweep import JOURNAL_LOCK
from fedpeft.sweep.cell import Cell

_LONGEST = 80  # bytes of a folder's name before seed and hash


@dataclass(frozen=True)
class Job:
    """One run to be made; cells with equal configurations share it.

    Attributes
    ----------
    folder
        Run folder.
    group
        What predicts memory and time: data set and backbone.
    """

    name: str
    config: RunConfig
    folder: Path
    group: str


@dataclass(frozen=True)
class Outcome:
    """How the last attempt at a run ended.

    Attributes
    ----------
    peak_memory
        Largest resident set of its process, bytes.
    reason
        None: it ended well.
    """

    peak_memory: int
    reason: str | None = None


_STATE = TypeAdapter(dict[str, Outcome])


class SweepFolder:
    """Paths and state of one sweep.

    Raises
    ------
    ConfigError
        If it is a run's folder.
    ArtifactError
        If its state is damaged, or it holds links or pipes.
    """

    def __init__(self, path: Path) -> None:
        if (path / ConfigFile.FILE).exists():
            raise ConfigError(f"{path} is the folder of a run; choose another --out for the sweep")
        if path.is_dir():
            require_plain(path, but=JOURNAL_LOCK)
        self.path = path
        self.runs = path / "runs"
        self.logs = path / "logs"
        self.outcomes = self._read_state()
        self._existing: dict[str, Path] = {}
        for config in sorted(self.runs.glob(f"*/{ConfigFile.FILE}")):
            # one that cannot be read was written with other settings; no cell is equal to it
            with suppress(FedpeftError):
                self._existing.setdefault(_key(RunFolder(config.parent).asked()), config.parent)

    def _read_state(self) -> dict[str, Outcome]:
        path = self.path / "state.json"
        try:
            return _STATE.validate_python(read_json(path) if path.exists() else {})
        except (ArtifactError, ValidationError):
            raise ArtifactError(
                f"{path} is damaged; without it the sweep goes on, but has to learn anew how much "
                "memory its runs take"
            ) from None

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the folder for one sweep; yields the lock's file descriptor.

        Processes that inherit the descriptor hold the lock as long as they live, so a sweep that
        was killed cannot be started again beside what is left of it.

        Raises
        ------
        ArtifactError
            If another sweep holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path) as handle:
            yield handle

    def job(self, cell: Cell) -> Job:
        """Return the run of a cell: one that exists with the same configuration, or a new one."""
        key = _key(cell.config)
        folder = self._existing.get(key)
        if folder is None:
            parts = [re.sub(r"[^\w.-]+", "_", label) for label in cell.labels.values()]
            # file systems count bytes; what is left of a letter that was cut through goes too
            short = "-".join(parts).encode()[:_LONGEST].decode(errors="ignore")
            name = f"{short or 'run'}-s{cell.config.seed}-{cell.hash[:8]}"
            folder = self._existing[key] = self.runs / name
        return Job(cell.name, cell.config, folder, _group(cell))

    def status(self, job: Job) -> str:
        """Return done, failed, begun or missing."""
        if RunFolder(job.folder).is_complete:
            return "done"
        outcome = self.outcomes.get(job.folder.name)
        if outcome is not None and outcome.reason is not None:
            return "failed"
        return "begun" if (job.folder / ConfigFile.FILE).exists() else "missing"

    def retry(self, job: Job) -> None:
        """Forget why an earlier attempt failed."""
        before = self.outcomes.get(job.folder.name)
        if before is not None:
            self.outcomes[job.folder.name] = Outcome(before.peak_memory)

    def record(self, job: Job, outcome: Outcome) -> None:
        """Remember how an attempt ended."""
        before = self.outcomes.get(job.folder.name)
        peak = max(outcome.peak_memory, before.peak_memory if before else 0)
        self.outcomes[job.folder.name] = Outcome(peak, outcome.reason)
        write_json(
            self.path / "state.json",
            {name: asdict(each) for name, each in self.outcomes.items()},
        )

    def peaks(self, jobs: Iterable[Job]) -> dict[str, int]:
        """Return the largest measured memory of each group, bytes."""
        found: dict[str, int] = {}
        for job in jobs:
            outcome = self.outcomes.get(job.folder.name)
            if outcome is not None:
                found[job.group] = max(found.get(job.group, 0), outcome.peak_memory)
        return found


def _key(config: RunConfig) -> str:
    return json.dumps(config.to_dict(), sort_keys=True)


def _group(cell: Cell) -> str:
    data = cell.config.data
    size = f" {data.synthetic.users}x{data.synthetic.items}" if cell.source == "synthetic" else ""
    return f"{cell.source}{size}, {cell.config.backbone.kind}"


def available_memory() -> int:
    """Return the bytes that processes can take without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass  # not Linux: all there is
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
