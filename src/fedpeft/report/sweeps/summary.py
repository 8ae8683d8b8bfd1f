"""A sweep's small summary for version control: figures, seeds and commits, nothing of the data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fedpeft.report.sweeps.cells import CellResult, facets
from fedpeft.report.sweeps.read import Sweep
from fedpeft.report.sweeps.statistics import CONFIDENCE, spread_of

_METRICS = ("hr@10", "ndcg@10", "mrr")
_RANKINGS = ("sampled", "full")
_PARTS = ("validation", "test")


def summary(sweep: Sweep) -> dict[str, Any]:
    """Return means, standard deviations and paired differences of every cell, ready for JSON."""
    facts = sweep.facts
    return {
        "name": facts.name,
        "command": facts.command,
        "axes": [[name, labels] for name, labels in facts.axes.items()],
        "seeds": facts.seeds,
        "compare": facts.compare and facts.compare.model_dump(),
        "confidence": CONFIDENCE,
        "status": dict(sweep.status),
        "cells": [
            _cell(cell)
            for facet in facets(sweep)
            for cell in facet.cells
            if cell.rows or cell.reasons
        ],
    }


def _cell(cell: CellResult) -> dict[str, Any]:
    """Return one cell's figures."""
    rows = list(cell.rows.values())
    found: dict[str, Any] = {
        "labels": dict(cell.labels),
        "seeds": list(cell.rows),
        "asked": cell.asked,
        "failed": list(cell.reasons),
        "configs": sorted({row["config"] for row in rows}),
        "commits": sorted({str(row["commit"]) for row in rows}),
        "versions": sorted({row["version"] for row in rows}),
        "splits": sorted({row["split"] for row in rows}),
        "rounds": sorted({row["rounds"] for row in rows}),
        "best": cell.best,
        "ties_best": cell.ties_best,
        "bytes_to_target": cell.target_bytes,
        "differences": {
            f"{cell.part}.{name}": asdict(interval) | {"verdict": interval.verdict}
            for name, interval in cell.differences.items()
        },
    }
    if not rows:
        return found
    for part in _PARTS:
        found[part] = {
            ranking: {
                name: asdict(spread)
                for name in _METRICS
                if (spread := cell.metric(f"{ranking}.{name}", part)) is not None
            }
            for ranking in _RANKINGS
        }
    names = [column for column in rows[0] if column.startswith("bytes.")]
    found["bytes"] = {name.removeprefix("bytes."): cell.mean(name) for name in names}
    found["floors"] = {
        name: rows[0][name]
        for name in rows[0]
        if name.startswith("floor.")
        and name.rpartition(".")[2] in _METRICS
        and rows[0][name] is not None
    }
    found["dataset"] = {
        key: rows[0].get(f"dataset.{key}") for key in ("name", "users", "items", "interactions")
    }
    for name in ("seconds", "peak_memory"):
        values = list(cell.values(name).values())
        found[name] = asdict(spread_of(values)) if values else None
    return found
