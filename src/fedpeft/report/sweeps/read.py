"""What a sweep folder holds, finished or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from fedpeft.errors import ArtifactError
from fedpeft.records import SweepFacts
from fedpeft.records.sweep import current_row
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
    facts = SweepFacts.read(path)
    table = path / "results.parquet"
    try:
        rows = [current_row(row) for row in pl.read_parquet(table, glob=False).to_dicts()]
    except FileNotFoundError:
        raise ArtifactError(f"{table} does not exist") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ArtifactError(f"{table} is not a readable Parquet file: {error}") from None
    for row in rows[:1]:
        check_row(row, facts, f"{table} has no column", "folder")
    for row in rows:
        if row["status"] == "done":
            row["curve"] = read_curve(path / row["folder"])
            row["gains"] = read_gains(path / row["folder"])
    return Sweep(facts, rows)


def check_row(row: Mapping[str, Any], facts: SweepFacts, problem: str, *needed: str) -> None:
    """Raise `ArtifactError` unless a row has labels, seed, status, config and what is `needed`."""
    for name in (*facts.axes, "seed", "status", "config", *needed):
        if name not in row:
            raise ArtifactError(f"{problem} {name!r}")
