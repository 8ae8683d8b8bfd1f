"""The charts of one facet: accuracy against bytes, learning curves, ablations."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any, Literal

from fedpeft.report.compare import baseline_label
from fedpeft.report.lines import MEGABYTES, Axis, Line, overlay
from fedpeft.report.sweeps.cells import CellResult, Facet, shown
from fedpeft.report.theme import PAGE, Theme, styled
from fedpeft.report.verdicts import CURVE, MAIN

MOST = 12
"""At most so many cells in one chart, the best ones and the reference."""

_ROUND = Axis("Bytes per client and round, both directions (logarithmic)", log=True)


def pareto(facet: Facet, of: Literal["total", "round"], *, width: int, theme: Theme = PAGE) -> Any:
    """Draw `MAIN` (mean over seeds, bars of one standard deviation) against bytes.

    The grey line joins the cells that no other one beats in both; None where nothing is there.
    """
    lines, points = [], []
    for index, cell in charted(facet):
        score = cell.metric(MAIN)
        size = cell.total_bytes if of == "total" else cell.round_bytes
        if score is None or not size:
            continue
        x = size / 1e6 if of == "total" else size
        half = score.std or 0.0
        bars = [(x, score.mean - half, score.mean + half)] if half else []
        points.append((x, score.mean))
        line = Line(
            facet.name(cell), theme.color(index), [1, 4], [(x, score.mean)], score.mean, bars
        )
        lines.append(line)
    if not lines:
        return None
    front = Line("", theme.muted, [1, 0], _front(points), 0.0)
    chart = overlay(lines, MEGABYTES if of == "total" else _ROUND, width, 300, behind=front)
    return styled(chart, theme)


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other one beats in bytes and accuracy, by bytes."""
    found: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or y > found[-1][1]:
            found.append((x, y))
    return found


def curves(facet: Facet, *, width: int, theme: Theme = PAGE) -> Any:
    """Draw validation NDCG@10 against megabytes, mean over seeds, with the baselines as rules."""
    lines = []
    for index, cell in charted(facet):
        points = _mean_curve(cell)
        if points:
            lines.append(
                Line(facet.name(cell), theme.color(index), theme.dash(index), points, points[-1][1])
            )
    if not lines:
        return None
    lines += [
        Line(baseline_label(name), theme.muted, [4, 4], [], metrics[f"validation.{CURVE}"])
        for name, metrics in facet.baselines().items()
    ]
    return styled(overlay(lines, MEGABYTES, width, 320), theme)


def _mean_curve(cell: CellResult) -> list[tuple[float, float]]:
    """Return the mean over seeds of bytes and metric, at the rounds that all seeds evaluated."""
    by_round: dict[int, list[tuple[float, float]]] = {}
    for curve in cell.curves.values():
        for point in curve:
            by_round.setdefault(point.round, []).append((point.bytes_per_client / 1e6, point.ndcg))
    return [
        (mean(x for x, _ in points), mean(y for _, y in points))
        for _, points in sorted(by_round.items())
        if len(points) == len(cell.curves) and all(x > 0 for x, _ in points)
    ]


def ablation(facet: Facet, axis: str, *, width: int, theme: Theme = PAGE) -> Any:
    """Draw `MAIN` against a numeric axis, one line per combination of the other labels."""
    series: dict[str, list[tuple[float, float, float]]] = {}
    rules: dict[str, float] = {}
    others = [other for other in facet.axes if other != axis]
    for cell in facet.cells:
        score = cell.metric(MAIN)
        if score is None:
            continue
        name = shown(cell, others)
        try:
            at = float(cell.labels[axis])
        except ValueError:
            rules[cell.labels[axis]] = score.mean
        else:
            series.setdefault(name or axis, []).append((at, score.mean, score.std or 0.0))
    if not series:
        return None
    lines = []
    for index, (name, found) in enumerate(list(series.items())[:MOST]):
        found.sort()
        bars = [(x, y - half, y + half) for x, y, half in found if half]
        points = [(x, y) for x, y, _ in found]
        lines.append(Line(name, theme.color(index), theme.dash(index), points, points[-1][1], bars))
    lines += [Line(name, theme.muted, [4, 4], [], level) for name, level in rules.items()]
    return styled(overlay(lines, Axis(axis), width, 300), theme)


def charted(facet: Facet) -> list[tuple[int, CellResult]]:
    """Return what fits in a chart, with the number that decides each cell's colour."""
    numbered = list(enumerate(facet.cells))
    if len(numbered) <= MOST:
        return numbered
    scored = [(i, cell) for i, cell in numbered if cell.metric(MAIN) is not None]
    scored.sort(key=lambda pair: pair[1].level, reverse=True)
    kept = scored[:MOST]
    kept += [pair for pair in scored[MOST:] if pair[1] is facet.reference]
    return [(i, cell) for i, (_, cell) in enumerate(sorted(kept, key=lambda pair: pair[0]))]
