"""The rows of a sweep's tables as text: cells, baselines, and full tables that were stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fedpeft.report.compare import baseline_label
from fedpeft.report.statistics import Interval
from fedpeft.report.sweeps.cells import CellResult, Facet
from fedpeft.report.sweeps.stopped import Stopped
from fedpeft.report.table import megabytes
from fedpeft.report.verdicts import MAIN, METRICS, SIGNS, interval_text, verdict

COLUMNS = (
    *METRICS.values(),
    "Verdict",
    "Bytes / round",
    "MB / client",
    "% of reference",
    "MB to target",
    "Seeds",
)
STOPPED_COLUMNS = (*METRICS.values(), "MB / client", "Rounds")

MARKS = {"won": "above", "lost": "below"}
"""CSS classes of verdicts."""


class Line(NamedTuple):
    """Text and its CSS class."""

    text: str
    mark: str = ""


class Text(NamedTuple):
    """A table cell: its text, its CSS class, and what stands below it."""

    text: str
    mark: str = ""
    more: Sequence[Line] = ()


def cell_row(cell: CellResult, mixed: bool) -> list[Text]:
    """Return a cell's row, one entry per `COLUMNS`.

    Parameters
    ----------
    mixed
        Whether some differences of the page are over users and some over seeds.
    """
    scores = [
        Text(str(cell.metric(name) or "-"), more=_difference(cell.differences.get(name), mixed))
        for name in METRICS
    ]
    if cell.best:
        scores[0] = Text(f"★ {scores[0].text}", "best", scores[0].more)
    else:
        scores[0] = Text(scores[0].text, more=[*scores[0].more, *_to_best(cell, mixed)])
    seeds = str(len(cell.rows))
    if len(cell.rows) < cell.asked:
        seeds += f" of {cell.asked}"
    return [
        *scores,
        _verdict(cell),
        Text("-" if cell.round_bytes is None else f"{cell.round_bytes:,.0f}"),
        Text("-" if cell.total_bytes is None else megabytes(cell.total_bytes)),
        Text("-" if cell.share is None else f"{100 * cell.share:.1f}"),
        _to_target(cell),
        Text(seeds),
    ]


def baseline_row(name: str, metrics: Mapping[str, float], facet: Facet) -> list[str]:
    """Return a baseline's row, its label first."""
    part = facet.cells[0].part
    scores = [metrics.get(f"{part}.{metric}") for metric in METRICS]
    texts = ["-" if score is None else f"{score:.4f}" for score in scores]
    return [baseline_label(name), *texts, *["-"] * (len(COLUMNS) - len(texts))]


def stopped_rows(found: Stopped, facet: Facet) -> list[tuple[str, list[Text]]]:
    """Return an adapter's row and that of the full table stopped at its bytes, with their names."""
    mine, its = (
        [
            Text(
                str(found.scores[name][side]) if name in found.scores else "-",
                more=() if side else _difference(found.differences.get(name), mixed=False),
            )
            for name in METRICS
        ]
        for side in (0, 1)
    )
    adapter = found.adapter
    rounds = adapter.mean("rounds")
    return [
        (
            facet.name(adapter),
            [
                *mine,
                Text(megabytes(adapter.total_bytes or 0.0)),
                Text("-" if rounds is None else f"{rounds:,.0f}"),
            ],
        ),
        (
            f"{facet.name(found.full)}, stopped",
            [*its, Text(megabytes(found.total_bytes)), Text(f"{found.rounds:,.0f}")],
        ),
    ]


def _difference(found: Interval | None, mixed: bool) -> list[Line]:
    """Return a difference's verdict and, below it, its interval."""
    if found is None:
        return []
    word = verdict(found)
    lines = [Line(f"{SIGNS[word]}{word} {found.mean:+.4f}", MARKS.get(word, ""))]
    if found.low is not None:
        lines.append(Line(interval_text(found, mixed)))
    return lines


def _verdict(cell: CellResult) -> Text:
    """Return how a cell stands to its reference in all."""
    if cell.reference is cell:
        return Text("reference")
    word = cell.verdict
    return Text("-") if word is None else Text(f"{SIGNS[word]}{word}", MARKS.get(word, ""))


def _to_best(cell: CellResult, mixed: bool) -> list[Line]:
    """Return how a cell stands to the best one where noise hides which of the two is better."""
    if cell.to_best is None or verdict(cell.to_best) != "within noise":
        return []
    if cell.reference is not None and cell.reference.best and MAIN in cell.differences:
        return []  # its difference to the reference is that one
    return [
        Line(f"within noise of ★ {cell.to_best.mean:+.4f}"),
        Line(interval_text(cell.to_best, mixed)),
    ]


def _to_target(cell: CellResult) -> Text:
    """Return the megabytes until a cell had reached the target, or how many of its seeds did."""
    if cell.target_bytes is not None:
        return Text(megabytes(cell.target_bytes))
    if not cell.reached_target:
        return Text("-")
    return Text(f"{cell.reached_target} of {len(cell.rows)} seeds")
