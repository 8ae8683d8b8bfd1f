"""A sweep's results as one small text file for version control; nothing of the data is in it.

The first line says what was asked for, each other one is a row of the sweep: labels, seed, status
and, where it is done, metrics, baselines, bytes, how it was made (commit, version, split and
configuration) and the learning curve.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.files import write_text
from fedpeft.foreign import all_printable, parse_json
from fedpeft.records import SweepFacts
from fedpeft.records.sweep import current_row
from fedpeft.report.runs import Point
from fedpeft.report.sweeps.read import Sweep, check_row, check_values

_METRICS = ("hr@10", "ndcg@10", "mrr")
"""Metrics that are kept, of runs and of baselines."""

_OF_DONE = ("curve", "version", "split")
"""Keys that a finished run has besides those of every row; the commit is not known everywhere."""


def is_records(path: Path) -> bool:
    """Return whether a file is one of records, by its name."""
    return path.suffix == ".jsonl" and path.is_file()


def write_records(sweep: Sweep, path: Path, *, drop: bool = False) -> Sweep:
    """Write a sweep's rows atomically, and return them with those kept from an earlier file.

    A sweep may be made in parts, on several machines or after its folder was lost: a finished run
    that `path` has and `sweep` lacks stays, if its configuration is still the one asked for.
    With `drop`, runs of configurations that are asked for no more leave the file.

    Raises
    ------
    ArtifactError
        If `path` exists and is damaged.
    ConfigError
        If it holds the results of another grid or of other data, or, without `drop`, finished runs
        of configurations that `sweep` does not ask for: it may be the older one.
    """
    if path.exists():
        earlier = read_records(path)
        if earlier.facts.name != sweep.facts.name:
            raise ConfigError(
                f"{path} has the results of {earlier.facts.name!r}, which those of "
                f"{sweep.facts.name!r} would replace; name another file"
            )
        _check_splits(sweep, earlier, path)
        sweep, lost = _joined(sweep, earlier)
        if lost and not drop:
            raise ConfigError(
                f"{path} has finished runs of settings that this sweep does not ask for "
                f"({len(lost)}, the first: {_name(lost[0], earlier)}); if they are of an older "
                "grid, drop them with --drop; if the sweep is the older one, begin it anew"
            )
    lines = (sweep.facts.to_json(), *map(_kept, sweep.rows))
    write_text(path, "".join(f"{_line(value)}\n" for value in lines))
    return sweep


def read_records(path: Path) -> Sweep:
    """Read a file of `write_records`.

    Raises
    ------
    ArtifactError
        If it is missing, a line is not JSON, lacks a key or has a value of the wrong kind, or two
        lines are of the same cell and seed.
    """
    try:
        # not splitlines: a label may hold what it takes for the end of a line
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None
    values = []
    for number, line in enumerate(lines, start=1):
        if lines == [""]:
            raise ArtifactError(f"{path} is empty; its first line says what was asked for")
        values.append(all_printable(parse_json(line, f"{path}, line {number}")))
    facts, rows = SweepFacts.of(values[0], path), []
    for number, value in enumerate(values[1:], start=2):
        where = f"{path}, line {number}"
        if not isinstance(value, dict):
            raise ArtifactError(f"{where} is no JSON object")
        row = current_row(value)
        rows.append(row)
        done = row.get("status") == "done"
        check_row(row, facts, f"{where} has no key", *(_OF_DONE if done else ()))
        check_values(row, facts, where)
        if done:
            row["curve"] = _curve(row["curve"], where)
    cells = Counter(tuple(row[name] for name in (*facts.axes, "seed")) for row in rows)
    for cell, count in cells.items():
        if count > 1:
            raise ArtifactError(f"{path} has {count} rows of {', '.join(map(str, cell))}; keep one")
    return Sweep(facts, rows)


def _curve(value: Any, where: str) -> list[Point]:
    try:
        return [
            Point(int(number), float(sent), float(ndcg), *map(float, more))
            for number, sent, ndcg, *more in value
        ]
    except (TypeError, ValueError):
        raise ArtifactError(
            f"{where}: 'curve' must be a list of [round, bytes, NDCG@10], with HR@10 and "
            "full-ranking NDCG@10 where they are known"
        ) from None


def _check_splits(sweep: Sweep, earlier: Sweep, path: Path) -> None:
    """Raise `ConfigError` where one configuration and seed was evaluated on two splits."""
    known = {_key(row): row["split"] for row in earlier.rows if row["status"] == "done"}
    for row in sweep.rows:
        before = known.get(_key(row)) if row["status"] == "done" else None
        if before is not None and before != row["split"]:
            raise ConfigError(
                f"{path} has {_name(row, sweep)} on the split {before[:12]}, the sweep on "
                f"{row['split'][:12]}: the data changed, so the results do not belong together; "
                "name another file"
            )


def _joined(sweep: Sweep, earlier: Sweep) -> tuple[Sweep, list[Mapping[str, Any]]]:
    """Return `sweep` with the finished runs of `earlier` that it lacks, and those without place."""
    known = {_key(row): row for row in earlier.rows if row["status"] == "done"}

    def best(row: Mapping[str, Any]) -> Mapping[str, Any]:
        found = known.get(_key(row))
        if row["status"] == "done" or found is None:
            return row
        return {**found, **{axis: row[axis] for axis in sweep.facts.axes}}

    asked = {_key(row) for row in sweep.rows}
    lost = [row for key, row in known.items() if key not in asked]
    return Sweep(sweep.facts, [best(row) for row in sweep.rows]), lost


def _key(row: Mapping[str, Any]) -> tuple[Any, Any]:
    return row["config"], row["seed"]


def _name(row: Mapping[str, Any], sweep: Sweep) -> str:
    return ", ".join(f"{name}={row[name]}" for name in (*sweep.facts.axes, "seed"))


def _kept(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a row, without its folder, which is of one machine, and its users."""
    kept = {
        name: value
        for name, value in row.items()
        if value is not None and name not in ("folder", "gains") and not _is_left_out(name)
    }
    if "curve" in kept:  # what is not known of a point stands at its end
        kept["curve"] = [[v for v in point if v is not None] for point in kept["curve"]]
    return kept


def _is_left_out(column: str) -> bool:
    """Return whether a column is a metric that is not kept, such as ``test.full.hr@50``."""
    *prefix, metric = column.split(".")
    return prefix[-1:] in (["sampled"], ["full"]) and metric not in _METRICS


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
