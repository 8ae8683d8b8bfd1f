"""The page of a sweep: one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedpeft.files import write_text
from fedpeft.records.result import shortage
from fedpeft.report.html import render, twice
from fedpeft.report.statistics import Interval
from fedpeft.report.sweeps.cells import Facet, facets, numbers
from fedpeft.report.sweeps.charts import MOST, ablation, charted, curves, pareto
from fedpeft.report.sweeps.overview import overview
from fedpeft.report.sweeps.read import Sweep
from fedpeft.report.sweeps.rows import (
    COLUMNS,
    STOPPED_COLUMNS,
    baseline_row,
    cell_row,
    stopped_rows,
)
from fedpeft.report.sweeps.stopped import stopped
from fedpeft.report.verdicts import OVERALL, RANKINGS, VERDICTS, is_mixed, pairing


def write_sweep_report(sweep: Sweep, path: Path) -> None:
    """Write the report of a sweep, finished or not."""
    every = facets(sweep)
    found = [facet for facet in every if any(cell.rows or cell.reasons for cell in facet.cells)]
    large = any(len(facet.cells) > MOST for facet in found)
    gaps = [gap for facet in found for cell in facet.cells for gap in cell.differences.values()]
    page = render(
        "sweep.html.j2",
        facts=sweep.facts,
        status=sweep.status,
        total=len(sweep.rows),
        warning=_shortage(sweep),
        notes=_notes(sweep, gaps),
        columns=("Cell", *COLUMNS),
        stopped_columns=("Cell", *STOPPED_COLUMNS),
        empty=len(every) - len(found),
        overview=twice(partial(overview, found)),
        facets=[_facet(facet, is_mixed(gaps)) for facet in found],
        capped=f" Charts show the {MOST} best cells and the reference." if large else "",
        ablations=_ablations(sweep, found),
        datasets=_datasets(sweep),
        versions=sorted({row["version"] for row in sweep.rows if row.get("version")}),
        commits=sorted(
            {_short(row["commit"]) for row in sweep.rows if row.get("commit")},
        ),
        failures=[
            (", ".join([*(row[axis] for axis in sweep.facts.axes), f"seed {row['seed']}"]), why)
            for row in sweep.rows
            if (why := row.get("reason"))
        ],
    )
    write_text(path, page)


def _notes(sweep: Sweep, gaps: Sequence[Interval]) -> list[str]:
    """Return what a reader of the tables must know."""
    compare, done = sweep.facts.compare, [row for row in sweep.rows if row["status"] == "done"]
    said = [
        f"Figures are of the {sweep.part} part, mean ± standard deviation over the seeds. "
        f"{RANKINGS} 1 MB is 1,000,000 bytes, both directions, everything included.",
        "★ has the highest mean NDCG@10 full of its table. A cell whose difference to it is within "
        "noise says so.",
    ]
    if sweep.facts.searched:
        said.append("The search maximised NDCG@10 sampled on validation.")
    if compare is not None:
        said.append(
            f"Differences are to {compare.axis} = {compare.reference}"
            + (f", {pairing(gaps)}" if gaps else "")
            + ". MB to target counts to the first evaluation that reached 95 % of the reference's "
            "final validation NDCG@10 sampled; where not all seeds did, the table says how many."
        )
    said.append(f"{VERDICTS}{f' {OVERALL}' if compare is not None else ''}")
    if len(sweep.facts.seeds) < 2:
        said.append("Only one seed: how much seeds vary is not known.")
    if any(row.get("setup.adapter") is None for row in done):
        said.append(
            "Which backbone, k and encoding a run had is not in these results, so that no full "
            "table is shown stopped at an adapter's bytes."
        )
    return said


def _shortage(sweep: Sweep) -> str:
    """Return what users with too few negatives do to the figures; nothing if there are none."""
    short = [row.get(f"{sweep.part}.short_users") or 0 for row in sweep.rows]
    most = int(max(short, default=0))
    return shortage(f"Up to {most:,} users of a run") if most else ""


def _facet(facet: Facet, mixed: bool) -> Mapping[str, Any]:
    """Return what the template needs of a facet."""
    colors = {cell: number for number, cell in charted(facet)}
    read, missing = stopped(facet)
    return {
        "title": facet.title,
        "warning": _warning(facet),
        "rows": [
            {"name": facet.name(cell), "color": colors.get(cell), "cells": cell_row(cell, mixed)}
            for cell in facet.cells
            if cell.rows or cell.reasons
        ],
        "waiting": [facet.name(c) for c in facet.cells if not (c.rows or c.reasons)],
        "left_out": facet.left_out,
        "baselines": [
            baseline_row(name, metrics, facet) for name, metrics in facet.baselines().items()
        ],
        "stopped": [row for each in read for row in stopped_rows(each, facet)],
        "missing": missing,
        "charts": {
            "total": twice(partial(pareto, facet, "total")),
            "round": twice(partial(pareto, facet, "round")),
            "curves": twice(partial(curves, facet)),
        },
    }


def _warning(facet: Facet) -> str:
    """Return what forbids comparing some of a facet's cells, or nothing."""
    splits = sorted({split[:12] for cell in facet.cells for split in cell.splits})
    if len(splits) < 2:
        return ""
    return (
        f"These cells were evaluated on {len(splits)} splits ({', '.join(splits)}): the data were "
        "changed in between, or are an axis. Figures of different splits cannot be compared, so "
        "differences are taken within a split only, and none is the best."
    )


def _ablations(sweep: Sweep, found: Sequence[Facet]) -> list[tuple[str, Any]]:
    """Draw every numeric axis of every facet."""
    return [
        (", ".join(filter(None, (facet.title, axis))), twice(partial(ablation, facet, axis)))
        for facet in found
        for axis in facet.axes
        if numbers(sweep.facts.axes[axis])
    ]


def _datasets(sweep: Sweep) -> list[list[str]]:
    """Return one row per data set and split."""
    rows = dict.fromkeys(
        (
            row["dataset.name"],
            *(f"{row[f'dataset.{key}']:,}" for key in ("users", "items", "interactions")),
            row["split"][:16],
        )
        for row in sweep.rows
        if row["status"] == "done" and row.get("dataset.name")
    )
    return [list(row) for row in rows]


def _short(commit: str) -> str:
    revision, dash, rest = commit.partition("-")
    return revision[:12] + dash + rest
