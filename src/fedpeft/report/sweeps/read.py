"""What a sweep folder holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from fedpeft.errors import ArtifactError
from fedpeft.files import read_json


class CompareFacts(BaseModel):
    """What differences are taken against."""

    model_config = ConfigDict(frozen=True)

    axis: str
    reference: str


class SweepFacts(BaseModel):
    """``sweep.json``: what was asked for; keys that a later version added are ignored."""

    model_config = ConfigDict(frozen=True)

    name: str
    command: str = ""
    axes: dict[str, list[str]]
    searched: list[str] = []
    seeds: list[int]
    compare: CompareFacts | None

    @field_validator("axes", mode="before")
    @classmethod
    def _from_pairs(cls, axes: Any) -> Any:
        """Take a list of pairs: JSON objects have no order."""
        return dict(axes) if isinstance(axes, list) else axes


@dataclass(frozen=True)
class Sweep:
    """A sweep folder, read: what was asked for, and one row per cell and seed."""

    folder: Path
    facts: SweepFacts
    rows: Sequence[Mapping[str, Any]]

    @property
    def status(self) -> Mapping[str, int]:
        """How many rows are done, failed, begun and missing."""
        found = dict.fromkeys(("done", "failed", "begun", "missing"), 0)
        for row in self.rows:
            found[row["status"]] += 1
        return found

    @property
    def part(self) -> str:
        """The part that figures are of: test, or validation where no run has read test."""
        tested = any(row.get("test.sampled.ndcg@10") is not None for row in self.rows)
        return "test" if tested else "validation"


def is_sweep(path: Path) -> bool:
    """Return whether a folder is a sweep's."""
    return (path / "sweep.json").is_file()


def read_sweep(path: Path) -> Sweep:
    """Read a sweep folder, finished or not.

    Raises
    ------
    ArtifactError
        If ``sweep.json`` or ``results.parquet`` is missing or damaged.
    """
    try:
        facts = SweepFacts.model_validate(read_json(path / "sweep.json"))
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise ArtifactError(f"{path / 'sweep.json'} has no valid {key!r}") from None
    table = path / "results.parquet"
    try:
        rows = pl.read_parquet(table).to_dicts()
    except FileNotFoundError:
        raise ArtifactError(f"{table} does not exist") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ArtifactError(f"{table} is not a readable Parquet file: {error}") from None
    needed = [*facts.axes, "seed", "status", "folder"]
    absent = [name for name in needed if rows and name not in rows[0]]
    if absent:
        raise ArtifactError(f"{table} has no column {absent[0]!r}")
    return Sweep(path, facts, rows)
