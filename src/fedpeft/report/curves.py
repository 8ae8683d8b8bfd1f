"""Learning curves, against rounds or against megabytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from fedpeft.report.runs import Run, labels
from fedpeft.report.table import floor_label, require_same_split
from fedpeft.report.theme import PAGE, Theme, inline, label_margin, styled

_LABEL_GAP = 15.0  # pixels between the centres of two labels


@dataclass(frozen=True)
class _Curve:
    """One labelled line: points (x, value), or a floor's level when there are no points."""

    label: str
    color: str
    dash: list[int]
    points: list[tuple[float, float]]
    level: float


def learning_curves(
    runs: Sequence[Run],
    against: Literal["rounds", "megabytes"],
    *,
    width: int = 720,
    height: int = 320,
    theme: Theme = PAGE,
    title: str = "",
    allow_different_splits: bool = False,
) -> Any | None:
    """Draw validation NDCG@10 (sampled negatives) of all runs, with the floors as rules.

    Parameters
    ----------
    against
        Rounds on a linear axis, or cumulative megabytes of the mean client on a logarithmic one.
    width, height
        Pixels; the width includes the labels at the right.

    Returns
    -------
    altair chart or None
        None when no run has an evaluation to show.
    """
    same_split = require_same_split(runs, allow_different_splits)
    curves = [
        _Curve(label, theme.color(i), theme.dash(i), points, points[-1][1])
        for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True))
        if (points := _points(run, against))
    ]
    if not curves:
        return None
    floors = runs[0].result.floors if same_split else {}
    curves += [
        _Curve(floor_label(name), theme.muted, [4, 4], [], parts.validation.sampled["ndcg@10"])
        for name, parts in floors.items()
    ]
    chart = _overlay(curves, against, width, height)
    return styled(chart.properties(title=title) if title else chart, theme)


def _points(run: Run, against: Literal["rounds", "megabytes"]) -> list[tuple[float, float]]:
    """Return one (x, validation NDCG@10) per evaluation; zero bytes have no logarithm."""
    if against == "rounds":
        return [(line.round, line.validation.sampled["ndcg@10"]) for line in run.evaluations]
    return [
        (line.bytes_per_client / 1e6, line.validation.sampled["ndcg@10"])
        for line in run.evaluations
        if line.bytes_per_client > 0
    ]


def _overlay(
    curves: list[_Curve],
    against: Literal["rounds", "megabytes"],
    width: int,
    height: int,
) -> Any:
    """Layer lines, end points, leaders and labels."""
    margin = label_margin([f"0.000  {curve.label}" for curve in curves], width)
    low, high = _domain([y for c in curves for _, y in c.points] + [c.level for c in curves])
    xs = [x for curve in curves for x, _ in curve.points]
    last = max(xs)
    log = against == "megabytes"
    scale = (
        alt.Scale(type="log", domain=[min(xs), last], nice=False)
        if log
        else alt.Scale(domain=[0, max(last, 1)], nice=False)
    )
    title = "MB per client, both directions (logarithmic)" if log else "Round"
    axis = alt.Axis(
        title=title,
        grid=False,
        tickCount=max(3, (width - margin) // 110),
        format=",~f" if log else ",d",
        titleAnchor="start",
    )
    x = alt.X("x:Q", scale=scale, axis=axis)
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(domain=[low, high], nice=False),
        axis=alt.Axis(title=None, ticks=False, tickCount=5, format=".2f"),
    )
    heights = spread([_pixel(c.level, low, high, height) for c in curves], _LABEL_GAP, height)
    layers: list[Any] = []
    for curve, at in zip(curves, heights, strict=True):
        color = alt.value(curve.color)
        start = curve.points or [(0.0 if not log else min(xs), curve.level)]
        end = [{"x": start[-1][0], "y": curve.level, "x2": last}]
        dash = curve.dash if not curve.points else [1, 4]
        layers.append(
            alt.Chart(inline(end))
            .mark_rule(strokeDash=dash, strokeWidth=1.2, opacity=0.8)
            .encode(x=x, x2="x2:Q", y=y, color=color)
        )
        if curve.points:
            values = [{"x": px, "y": py} for px, py in curve.points]
            base = alt.Chart(inline(values)).encode(x=x, y=y)
            layers.append(base.mark_line(strokeWidth=2, strokeDash=curve.dash).encode(stroke=color))
            layers.append(
                alt.Chart(inline(values[-1:]))
                .mark_circle(size=44, opacity=1)
                .encode(x=x, y=y, color=color)
            )
        layers.append(_label(curve, at, margin))
    return alt.layer(*layers).properties(width=width - margin - 44, height=height)


def _label(curve: _Curve, at: float, margin: int) -> Any:
    """Write a curve's last value and name right of the plot, at a height in pixels."""
    text = f"{curve.level:.3f}  {curve.label}"
    return (
        alt.Chart(inline([{"label": text}]))
        .mark_text(
            align="left",
            baseline="middle",
            dx=10,
            fontWeight=600 if curve.points else 400,
            limit=margin - 8,
        )
        .encode(
            x=alt.value("width"),
            y=alt.value(at),
            text="label:N",
            color=alt.value(curve.color),
        )
    )


def _domain(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of `values` with a little air, at least 0.02 wide."""
    low, high = min(values), max(values)
    air = max(0.06 * (high - low), 0.01)
    return max(0.0, low - air), high + air


def _pixel(value: float, low: float, high: float, height: float) -> float:
    return height * (high - value) / (high - low)


def spread(positions: Sequence[float], gap: float, height: float) -> list[float]:
    """Move labels apart, as little as one pass down and one pass up can.

    Parameters
    ----------
    positions
        Wanted centres in pixels from the top.
    gap
        Least distance of two centres, in pixels.
    height
        Labels stay at or above this height where they fit.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = [0.0] * len(positions)
    previous = -math.inf
    for i in order:
        previous = placed[i] = max(positions[i], previous + gap)
    following = max(height, gap * (len(positions) - 1)) + gap
    for i in reversed(order):
        following = placed[i] = min(placed[i], following - gap)
    return placed
