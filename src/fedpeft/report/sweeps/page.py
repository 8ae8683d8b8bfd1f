"""The page of a sweep: one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fedpeft.files import write_text
from fedpeft.records.result import shortage
from fedpeft.report.html import render, twice
from fedpeft.report.statistics import Interval
from fedpeft.report.sweeps.cells import MAIN, METRICS, CellResult, Facet, facets, numbers
from fedpeft.report.sweeps.charts import MOST, ablation, charted, curves, pareto
from fedpeft.report.sweeps.overview import overview
from fedpeft.report.sweeps.read import Sweep
from fedpeft.report.table import baseline_label, megabytes

_COLUMNS = (
    "NDCG@10",
    "HR@10",
    "NDCG@10 full",
    "Difference [95 %]",
    "Bytes / round",
    "MB / client",
    "% of reference",
    "MB to target",
    "Seeds",
)


class _Text(NamedTuple):
    """A table cell: its text, its CSS class, and what stands below it."""

    text: str
    mark: str = ""
    more: str = ""


def write_sweep_report(sweep: Sweep, path: Path) -> None:
    """Write the report of a sweep, finished or not."""
    every = facets(sweep)
    found = [facet for facet in every if any(cell.rows or cell.reasons for cell in facet.cells)]
    large = any(len(facet.cells) > MOST for facet in found)
    page = render(
        "sweep.html.j2",
        facts=sweep.facts,
        status=sweep.status,
        total=len(sweep.rows),
        warning=_shortage(sweep),
        notes=_notes(sweep, found),
        columns=("Cell", *_COLUMNS),
        empty=len(every) - len(found),
        overview=twice(partial(overview, found)),
        facets=[_facet(facet) for facet in found],
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


def _notes(sweep: Sweep, found: Sequence[Facet]) -> list[str]:
    """Return what a reader of the table must know."""
    compare = sweep.facts.compare
    said = [
        f"Figures are of the {sweep.part} part, mean ± standard deviation over the seeds; HR@10 "
        "and NDCG@10 against the sampled negatives, NDCG@10 full against all items. 1 MB is "
        "1,000,000 bytes, both directions, everything included.",
        "★ has the highest mean of its table. Undecided: the 95 % interval of a cell's paired "
        "difference to ★ contains zero. Then these seeds do not tell which of the two is better; "
        "they do not say that both are equal. The interval stands in brackets, or under "
        '"difference" where ★ is the reference.',
    ]
    if compare is not None:
        said.append(
            f"Differences are in NDCG@10, against {compare.axis} = {compare.reference}, paired "
            "over the seeds that both have, with Student's 95 % interval (mean ± t s / √n of the n "
            "differences); ▲ above or ▼ below: the interval leaves zero out, so the difference "
            "exceeds seed noise. Without a triangle it is undecided. MB to target counts to the "
            "first evaluation that reached 95 % of the reference's final validation NDCG@10; where "
            "not all seeds did, the table says how many."
        )
        if any(cell.over_users is not None for facet in found for cell in facet.cells):
            said.append(
                '"Over users" is the 95 % interval of the same difference over the users, each '
                "user's being a mean over the seeds: how far it would vary with other users like "
                "them, the trained models being what they are."
            )
    if len(sweep.facts.seeds) < 2:
        said.append("Only one seed: no noise is known, so no difference here is decided.")
    return said


def _shortage(sweep: Sweep) -> str:
    """Return what users with too few negatives do to the figures; nothing if there are none."""
    short = [row.get(f"{sweep.part}.short_users") or 0 for row in sweep.rows]
    most = int(max(short, default=0))
    return shortage(f"Up to {most:,} users of a run") if most else ""


def _facet(facet: Facet) -> Mapping[str, Any]:
    """Return what the template needs of a facet."""
    colors = {cell: number for number, cell in charted(facet)}
    return {
        "title": facet.title,
        "warning": _warning(facet),
        "rows": [
            {"name": facet.name(cell), "color": colors.get(cell), "cells": _row(cell)}
            for cell in facet.cells
            if cell.rows or cell.reasons
        ],
        "waiting": [facet.name(c) for c in facet.cells if not (c.rows or c.reasons)],
        "left_out": facet.left_out,
        "baselines": [
            _baseline(name, metrics, facet) for name, metrics in facet.baselines().items()
        ],
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


def _row(cell: CellResult) -> list[_Text]:
    """Return a cell's row as text, one entry per `_COLUMNS`."""
    scores = [str(cell.metric(name) or "-") for name in METRICS]
    seeds = str(len(cell.rows))
    if len(cell.rows) < cell.asked:
        seeds += f" of {cell.asked}"
    return [
        _Text(f"★ {scores[0]}", "best") if cell.best else _Text(scores[0], more=_to_best(cell)),
        *map(_Text, scores[1:]),
        _difference(cell),
        _Text("-" if cell.round_bytes is None else f"{cell.round_bytes:,.0f}"),
        _Text("-" if cell.total_bytes is None else megabytes(cell.total_bytes)),
        _Text("-" if cell.share is None else f"{100 * cell.share:.1f}"),
        _to_target(cell),
        _Text(seeds),
    ]


def _to_best(cell: CellResult) -> str:
    """Return how a cell stands to the best one where its seeds do not decide it."""
    if cell.to_best is None or cell.to_best.verdict != "undecided":
        return ""
    if cell.reference is not None and cell.reference.best:
        return "undecided"  # its difference to the reference is that one
    return f"undecided, to ★ {_figures(cell.to_best)}"


def _difference(cell: CellResult) -> _Text:
    """Return a cell's paired difference with its intervals and what they say."""
    if cell.reference is cell:
        return _Text("reference")
    found, users = cell.differences.get(MAIN), cell.over_users
    if found is None:
        return _Text("-")
    over_users = f"over users {_ends(users)}" if users is not None else ""
    if found.low is None:
        return _Text(f"{found.mean:+.4f}, one seed: no noise known", more=over_users)
    sign = {"above": "▲ ", "below": "▼ "}.get(found.verdict, "")
    mark = found.verdict if sign else ""
    return _Text(f"{sign}{_figures(found)}", mark, over_users)


def _to_target(cell: CellResult) -> _Text:
    """Return the megabytes until a cell had reached the target, or how many of its seeds did."""
    if cell.target_bytes is not None:
        return _Text(megabytes(cell.target_bytes))
    if not cell.reached_target:
        return _Text("-")
    return _Text(f"{cell.reached_target} of {len(cell.rows)} seeds")


def _figures(found: Interval) -> str:
    return f"{found.mean:+.4f} {_ends(found)}"


def _ends(found: Interval) -> str:
    return "[-]" if found.low is None else f"[{found.low:+.4f}, {found.high:+.4f}]"


def _baseline(name: str, metrics: Mapping[str, float], facet: Facet) -> list[str]:
    part = facet.cells[0].part
    scores = [metrics.get(f"{part}.{metric}") for metric in METRICS]
    texts = ["-" if score is None else f"{score:.4f}" for score in scores]
    return [baseline_label(name), *texts, *["-"] * (len(_COLUMNS) - len(texts))]


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
