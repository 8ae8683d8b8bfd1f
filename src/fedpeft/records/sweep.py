"""``sweep.json``: what a sweep was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationError, field_validator

from fedpeft.errors import ArtifactError
from fedpeft.files import read_json, write_json
from fedpeft.foreign import all_printable
from fedpeft.records.base import Record, check_schema
from fedpeft.records.result import client_bytes_of_1

JOURNAL_LOCK = "search.journal.lock"
"""A link that optuna makes in a sweep folder while it writes ``search.journal``."""


def current_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a results table with the names of today for columns of schema 1."""
    found = {
        f"baseline.{name.removeprefix('floor.')}" if name.startswith("floor.") else name: value
        for name, value in row.items()
    }
    return client_bytes_of_1(found, "bytes.")


class CompareFacts(Record):
    """What differences are taken against."""

    axis: str
    reference: str


class SweepFacts(Record):
    """What was asked for."""

    FILE: ClassVar[str] = "sweep.json"
    SCHEMA: ClassVar[int] = 2

    name: str
    command: str = ""
    """What makes the same sweep, in the folder where this one was begun."""
    grid: str = ""
    """The grid file; earlier versions did not keep it."""
    axes: dict[str, list[str]]
    searched: list[str] = Field(default_factory=list)
    seeds: list[int]
    compare: CompareFacts | None

    @field_validator("axes", mode="before")
    @classmethod
    def _from_pairs(cls, axes: Any) -> Any:
        """Take a list of pairs: JSON objects have no order."""
        return dict(axes) if isinstance(axes, list) else axes

    @classmethod
    def read(cls, folder: Path) -> SweepFacts:
        """Read a sweep folder's; raises `ArtifactError` as `of`."""
        path = folder / cls.FILE
        return cls.of(read_json(path), path)

    @classmethod
    def of(cls, value: Any, path: Path) -> SweepFacts:
        """Return what was asked for; raises `ArtifactError` where a key is missing or no use."""
        if isinstance(value, dict):
            check_schema(value.get("schema", 1), cls.SCHEMA, f"{path}")
        try:
            facts = cls.model_validate(all_printable(value))
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            what = f"has no valid {key!r}" if key else "does not begin with what was asked for"
            raise ArtifactError(f"{path} {what}") from None
        if facts.compare is not None and facts.compare.axis not in facts.axes:
            raise ArtifactError(
                f"{path}: 'compare.axis' = {facts.compare.axis!r} is none of its axes"
            )
        return facts

    def write(self, folder: Path) -> None:
        """Write it into a sweep folder, atomically."""
        write_json(folder / self.FILE, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return it as the file has it."""
        axes = [[name, labels] for name, labels in self.axes.items()]  # their order counts
        return {"schema": self.SCHEMA, **self.model_dump(mode="json"), "axes": axes}
