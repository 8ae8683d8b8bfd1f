"""What a sweep folder holds, finished or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from fedpeft.errors import ArtifactError
from fedpeft.foreign import all_printable, require_plain
from fedpeft.records import SweepFacts
from fedpeft.records.parquet import read_table
from fedpeft.records.sweep import JOURNAL_LOCK, current_row
from fedpeft.report.runs import read_curve, read_gains

STATUSES = ("done", "failed", "begun", "missing")


@dataclass(frozen=True)
class Sweep:
    """A sweep, read: what was asked for, and one row per cell and seed.

    Attributes
    ----------
    rows
        As in ``results.parquet``; those that are done have their learning curve as ``curve``
        and, read from a folder, what `read_gains` found as ``gains``.
    """

    facts: SweepFacts
    rows: Sequence[Mapping[str, Any]]

    @property
    def status(self) -> Mapping[str, int]:
        """How many rows are done, failed, begun and missing."""
        found = dict.fromkeys(STATUSES, 0)
        for row in self.rows:
            found[row["status"]] += 1
        return found

    @property
    def part(self) -> str:
        """The part that figures are of: test, or validation where a run has not read test."""
        done = [row for row in self.rows if row["status"] == "done"]
        unread = any(row.get("test.sampled.ndcg@10") is None for row in done)
        return "validation" if unread or not done else "test"


def is_sweep(path: Path) -> bool:
    """Return whether a folder is a sweep's."""
    return (path / SweepFacts.FILE).is_file()


def read_sweep(path: Path) -> Sweep:
    """Read a sweep folder, finished or not.

    Raises
    ------
    ArtifactError
        If ``sweep.json``, ``results.parquet`` or a finished run's ``metrics.jsonl`` is missing or
        damaged, or its ``users.parquet`` is damaged.
    """
    require_plain(path, but=JOURNAL_LOCK)
    facts = SweepFacts.read(path)
    table = path / "results.parquet"
    rows = [current_row(all_printable(row)) for row in read_table(table, 1).to_dicts()]
    for row in rows[:1]:
        check_row(row, facts, f"{table} has no column", "folder")
    for number, row in enumerate(rows, start=1):
        there = {name: value for name, value in row.items() if value is not None}
        check_row(there, facts, f"{table}, row {number} has no", "folder")
        check_values(there, facts, f"{table}, row {number}")
        if row["status"] == "done":
            folder = path / row["folder"]
            if not folder.resolve().is_relative_to(path.resolve()):
                raise ArtifactError(f"{table}, row {number}: {row['folder']!r} is not in the sweep")
            row["curve"] = read_curve(folder)
            row["gains"] = read_gains(folder)
    return Sweep(facts, rows)


_SETUP = ("setup.backbone", "setup.adapter", "setup.encoding")
_FACTS = ("folder", "config", "commit", "version", "split", "dataset.name", "baselines_left_out")
_TEXTS = (*_FACTS, *_SETUP)
_NUMBERS = ("validation.", "test.", "baseline.", "bytes.", "dataset.", "setup.dim", "rounds")
"""How the columns of numbers begin."""


def check_values(row: Mapping[str, Any], facts: SweepFacts, where: str) -> None:
    """Raise `ArtifactError` for a value that no sweep writes."""
    for name, value in row.items():
        if name in facts.axes or name in _TEXTS:
            right, wanted = isinstance(value, str), "text"
        elif name == "status":
            right, wanted = value in STATUSES, f"one of {', '.join(STATUSES)}"
        elif name == "seed":
            right, wanted = type(value) is int, "a whole number"
        elif name.startswith(_NUMBERS):
            right = type(value) in (int, float) and isfinite(value)
            wanted = "a finite number"
        else:
            continue
        if not right:
            raise ArtifactError(f"{where}: {name!r} = {value!r} must be {wanted}")


def check_row(row: Mapping[str, Any], facts: SweepFacts, problem: str, *needed: str) -> None:
    """Raise `ArtifactError` unless a row has labels, seed, status, config and what is `needed`."""
    for name in (*facts.axes, "seed", "status", "config", *needed):
        if name not in row:
            raise ArtifactError(f"{problem} {name!r}")
