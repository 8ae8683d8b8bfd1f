"""The results table: one tidy row per cell and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from fedpeft.files import atomic_path
from fedpeft.records import Parts, Result
from fedpeft.sweep.cell import Cell
from fedpeft.sweep.folder import SweepFolder


class Results:
    """Gathers rows and writes ``results.parquet`` and ``results.csv``; results are read once."""

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self._known: dict[Path, dict[str, Any]] = {}

    def write(self, cells: Sequence[Cell]) -> None:
        """Write both files, each atomically."""
        table = self.table(cells)
        with atomic_path(self._folder.path / "results.parquet") as temporary:
            table.write_parquet(temporary)
        with atomic_path(self._folder.path / "results.csv") as temporary:
            table.write_csv(temporary)

    def table(self, cells: Sequence[Cell]) -> pl.DataFrame:
        """Return one row per cell and seed; what is not there yet is null."""
        rows = [self.row(cell) for cell in cells]
        columns = dict.fromkeys(key for row in rows for key in row)
        return pl.DataFrame(
            [{key: row.get(key) for key in columns} for row in rows], infer_schema_length=None
        )

    def row(self, cell: Cell) -> dict[str, Any]:
        """Return a cell's row: labels, seed, status, metrics, baselines, bytes, how it was made."""
        job = self._folder.job(cell)
        status = self._folder.status(job)
        outcome = self._folder.outcomes.get(job.folder.name)
        return {
            **cell.labels,
            "seed": cell.config.seed,
            "status": status,
            "reason": outcome.reason if outcome and status == "failed" else None,
            "folder": job.folder.relative_to(self._folder.path).as_posix(),
            "config": cell.hash,
            "peak_memory": outcome.peak_memory if outcome else None,
            **(self._result(job.folder) if status == "done" else {}),
        }

    def _result(self, folder: Path) -> dict[str, Any]:
        if folder not in self._known:
            self._known[folder] = columns(Result.read(folder))
        return self._known[folder]


def columns(result: Result) -> dict[str, Any]:
    """Return what a ``result.json`` adds to a row.

    Metrics are called ``part.ranking.metric``, such as ``test.sampled.ndcg@10``; baselines the same
    after ``baseline.name.``; bytes as in the result, after ``bytes.``.  ``part.short_users`` counts
    users with fewer sampled negatives than asked for.  What a run's item table was and how it
    travelled is called ``setup.backbone``, ``setup.adapter``, ``setup.dim``, ``setup.encoding``.
    ``baselines_left_out`` is text, null where none was.
    """
    found: dict[str, Any] = {}
    parts: dict[str, Parts] = {"": result.metrics}
    parts |= {f"baseline.{name}.": baseline for name, baseline in result.baselines.items()}
    for prefix, both in parts.items():
        for part, scores in (("validation", both.validation), ("test", both.test)):
            if scores is None:
                continue
            if not prefix:  # null where there are none
                found[f"{part}.short_users"] = scores.short_users or None
            for ranking, metrics in (("sampled", scores.sampled), ("full", scores.full)):
                for metric, value in metrics.items():
                    found[f"{prefix}{part}.{ranking}.{metric}"] = value
    return {
        **found,
        **{f"bytes.{name}": value for name, value in result.bytes.model_dump().items()},
        **{
            f"dataset.{name}": value
            for name, value in result.dataset.model_dump(
                include={"name", "users", "items", "interactions"}
            ).items()
        },
        "baselines_left_out": " ".join(result.baselines_left_out or ()) or None,
        **_setup(result.config),
        "rounds": result.rounds,
        "seconds": result.seconds,
        "commit": result.commit,
        "version": result.made_by,
        "split": result.split_fingerprint,
    }


def _setup(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return backbone, adapter, width and encoding of a run; both ways if there are two."""
    training = config.get("training", {})
    up = training.get("encoding")
    down = training.get("download_encoding") or up
    return {
        "setup.backbone": config.get("backbone", {}).get("kind"),
        "setup.adapter": config.get("adapter", {}).get("kind"),
        "setup.dim": config.get("items", {}).get("dim"),
        "setup.encoding": up if up == down else f"{up} up, {down} down",
    }
