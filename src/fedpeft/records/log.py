"""Logs: JSON lines that grow with a run, and give up a line rather than the run."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from fedpeft.errors import ArtifactError
from fedpeft.files import naming, read_bytes, sync_folder
from fedpeft.foreign import all_printable, parse_json
from fedpeft.records.base import Record, Whole, check, check_schema

SCHEMA = 2


class Line(Record, ABC):
    """One line of a log, which is named `FILE`, and was `EARLIER` in schema 1.

    Each line says its schema, because any line may be lost.
    """

    FILE: ClassVar[str]
    EARLIER: ClassVar[str | None] = None

    round: Whole

    @property
    @abstractmethod
    def rounds_done(self) -> int:
        """The number of rounds after which the line was written."""

    @classmethod
    def current(cls, value: dict[str, Any], schema: int) -> dict[str, Any]:
        """Translate what an earlier version wrote."""
        return value


L = TypeVar("L", bound=Line)


class Log(Generic[L]):
    """A log that is being written; lines are kept in memory until `flush`."""

    def __init__(self, model: type[L], folder: Path) -> None:
        self.path = folder / model.FILE
        self._model = model
        self._pending: list[str] = []

    def add(self, line: L) -> None:
        """Add a line; it reaches the disk at the next `flush`."""
        values = {"schema": SCHEMA, **line.to_json()}
        self._pending.append(json.dumps(values, sort_keys=True, allow_nan=False) + "\n")

    def flush(self) -> None:
        """Put pending lines on the disk: all of them, or, with an `OSError`, none."""
        with naming(self.path), self.path.open("ab") as log:
            size = log.tell()
            try:
                log.write("".join(self._pending).encode())
                log.flush()
                os.fsync(log.fileno())
            except OSError:
                os.truncate(self.path, size)
                raise
        sync_folder(self.path.parent)
        self._pending.clear()

    def rewind(self, rounds: int) -> int:
        """Cut the log back to what it had after so many rounds; return how many lines are left.

        They may be fewer than were written: a power cut may have taken the last ones, and what
        cannot be read goes as well.
        """
        self._pending.clear()
        lines, size, done = 0, 0, -1
        with naming(self.path), self.path.open("ab+") as log:
            log.seek(0)
            for text in log:
                try:
                    line = _parse(self._model, text, f"{self.path}, line {lines + 1}")
                except ArtifactError:
                    break
                if not text.endswith(b"\n") or not done < line.rounds_done <= rounds:
                    break
                lines, size, done = lines + 1, size + len(text), line.rounds_done
            log.truncate(size)
            os.fsync(log.fileno())
        return lines


def read_log(model: type[L], folder: Path) -> tuple[L, ...]:
    """Read a run folder's log, of this version or an earlier one.

    Rounds may be missing: a run outlives the loss of lines.  A last line that was not written to
    its end is none.

    Raises
    ------
    ArtifactError
        If it is missing, a line is not JSON, lacks a key or holds a value out of range, or rounds
        go back.
    """
    path = folder / model.FILE
    if not path.exists() and model.EARLIER is not None and (folder / model.EARLIER).exists():
        path = folder / model.EARLIER
    lines = tuple(_lines(model, read_bytes(path), path))
    for number, (before, after) in enumerate(pairwise(lines), start=2):
        if after.round < before.round:
            raise ArtifactError(
                f"{path}, line {number} goes back from round {before.round} to {after.round}"
            )
    return lines


def _lines(model: type[L], text: bytes, path: Path) -> Iterator[L]:
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if line.endswith(b"\n"):
            yield _parse(model, line, f"{path}, line {number}")


def _parse(model: type[L], text: bytes, where: str) -> L:
    value = all_printable(parse_json(text, where))
    if isinstance(value, dict):
        schema = check_schema(value.get("schema", 1), SCHEMA, where)
        value = model.current(value, schema)
    return check(model, value, where)
