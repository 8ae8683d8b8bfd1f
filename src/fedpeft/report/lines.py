"""Labelled lines over one another: every line's name and last value stand at its right.

A rule that lies far from all points, such as a baseline, would squeeze them into a strip.  Only its
label is drawn then: at the edge behind which it lies, with an arrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from fedpeft.report.theme import inline, label_margin

_LABEL_GAP = 15.0  # pixels between the centres of two labels
_FLAT = 0.02  # curves that rise by less are not magnified further for a rule's sake


@dataclass(frozen=True, eq=False)
class Line:
    """One labelled line.

    Attributes
    ----------
    points
        (x, value); none for a rule at the height of `level`, such as a baseline.
    level
        What is told beside the label.
    errors
        (x, low, high) of error bars.
    """

    label: str
    color: str
    dash: list[int]
    points: Sequence[tuple[float, float]]
    level: float
    errors: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Axis:
    """The horizontal axis; a logarithmic one starts at the smallest value, a linear one at 0."""

    title: str
    log: bool = False


ROUNDS = Axis("Round")
MEGABYTES = Axis("MB per client, both directions (logarithmic)", log=True)


def overlay(
    curves: Sequence[Line],
    axis: Axis,
    width: int,
    height: int,
    *,
    behind: Line | None = None,
) -> Any:
    """Layer lines, error bars, end points, leaders and labels; `behind` has none of the latter."""
    lowest, highest = _reach(curves)
    labels = {c: _label(c, lowest, highest) for c in curves}
    margin = label_margin(list(labels.values()), width)
    within = [c for c in curves if lowest <= c.level <= highest]
    low, high = _domain(_heights(within) + [c.level for c in within])
    xs = [x for curve in curves for x, _ in curve.points]
    first, last = _ends(xs, axis)
    scale = alt.Scale(type="log" if axis.log else "linear", domain=[first, last], nice=False)
    drawn = alt.Axis(
        title=axis.title,
        grid=False,
        tickCount=max(3, (width - margin) // 110),
        format=",~f" if axis.log or last < 5 else ",d",
        titleAnchor="start",
    )
    x = alt.X("x:Q", scale=scale, axis=drawn)
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(domain=[low, high], nice=False),
        axis=alt.Axis(title=None, ticks=False, tickCount=5, format=_format(high - low)),
    )
    layers = _marks(within, first, last, x, y, behind)
    layers += _labels(labels, (low, high), height, y, margin)
    return alt.layer(*layers).properties(width=width - margin - 44, height=height)


def _marks(
    curves: Sequence[Line], first: float, last: float, x: Any, y: Any, behind: Line | None
) -> list[Any]:
    """Return lines, leaders, error bars and points; one layer per look, not per curve."""
    color = alt.Color("color:N", scale=None, legend=None)
    layers: list[Any] = []

    def rules(values: list[dict[str, Any]], dash: list[int], **ends: str) -> None:
        if values:
            mark = alt.Chart(inline(values)).mark_rule(
                strokeDash=dash, strokeWidth=1.2, opacity=0.8
            )
            layers.append(mark.encode(x=x, y=y, color=color, **ends))

    def lines(found: Sequence[Line], dash: list[int], width: float) -> None:
        values = [
            {"x": px, "y": py, "color": curve.color, "curve": number}
            for number, curve in enumerate(found)
            for px, py in curve.points
        ]
        if values:
            mark = alt.Chart(inline(values)).mark_line(strokeWidth=width, strokeDash=dash)
            stroke = alt.Stroke("color:N", scale=None, legend=None)
            layers.append(mark.encode(x=x, y=y, stroke=stroke, detail="curve:N"))

    if behind is not None:
        lines([behind], behind.dash, 1.2)
    leaders = [
        {"x": (c.points[-1][0] if c.points else first), "x2": last, "y": c.level, "color": c.color}
        for c in curves
    ]
    drawn = [bool(curve.points) for curve in curves]
    rules([v for v, line in zip(leaders, drawn, strict=True) if line], [1, 4], x2="x2:Q")
    rules([v for v, line in zip(leaders, drawn, strict=True) if not line], [4, 4], x2="x2:Q")
    for dash in {tuple(curve.dash): None for curve in curves if curve.points}:
        lines([curve for curve in curves if tuple(curve.dash) == dash], list(dash), 2)
    bars = [
        {"x": ex, "y": below, "y2": above, "color": curve.color}
        for curve in curves
        for ex, below, above in curve.errors
    ]
    rules(bars, [1, 0], y2="y2:Q")
    ends = [
        {"x": px, "y": py, "color": curve.color}
        for curve in curves
        for px, py in (curve.points if curve.errors else curve.points[-1:])
    ]
    if ends:
        layers.append(alt.Chart(inline(ends)).mark_circle(size=44, opacity=1).encode(x, y, color))
    return layers


def _labels(
    labels: Mapping[Line, str], domain: tuple[float, float], height: int, y: Any, margin: int
) -> list[Any]:
    """Write each curve's last value and name right of the plot, none over another."""
    low, high = domain
    curves = sorted(labels, key=lambda curve: -curve.level)  # those behind an edge stay in order
    wanted = [min(max(_pixel(c.level, low, high, height), 0.0), height) for c in curves]
    heights = spread(wanted, _LABEL_GAP, height)
    layers = []
    for weight in (600, 400):
        values = [
            {
                "label": labels[curve],
                "y": high - (high - low) * at / height,
                "color": curve.color,
            }
            for curve, at in zip(curves, heights, strict=True)
            if (600 if curve.points else 400) == weight
        ]
        if values:
            mark = alt.Chart(inline(values)).mark_text(
                align="left", baseline="middle", dx=10, fontWeight=weight, limit=margin - 8
            )
            color = alt.Color("color:N", scale=None, legend=None)
            layers.append(mark.encode(x=alt.value("width"), y=y, text="label:N", color=color))
    return layers


def _heights(curves: Sequence[Line]) -> list[float]:
    """Return every value that a point or an error bar has."""
    points = [y for curve in curves for _, y in curve.points]
    return points + [y for curve in curves for _, *ends in curve.errors for y in ends]


def _reach(curves: Sequence[Line]) -> tuple[float, float]:
    """Return between which values a rule is drawn: as far again as the points reach themselves.

    So they keep a third of the height at least.
    """
    heights = _heights(curves)
    if not heights:
        return -math.inf, math.inf
    low, high = min(heights), max(heights)
    span = max(high - low, _FLAT)
    return low - span, high + span


def _label(curve: Line, lowest: float, highest: float) -> str:
    """Return what stands beside a line, with an arrow where it lies behind an edge."""
    arrow = "↑ " if curve.level > highest else "↓ " if curve.level < lowest else ""
    return f"{arrow}{curve.level:.3f}  {curve.label}"


def _ends(xs: Sequence[float], axis: Axis) -> tuple[float, float]:
    """Return where the axis begins and ends; one value alone would have no width."""
    if not axis.log:
        return 0.0, max(xs) or 1.0
    first, last = min(xs), max(xs)
    return (first, last) if first < last else (first / 2, last * 2)


def _domain(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of `values` with a little air, at least 0.004 wide."""
    low, high = min(values), max(values)
    air = max(0.06 * (high - low), 0.002)
    return max(0.0, low - air), high + air


def _format(height: float) -> str:
    """Return a number format in which about five ticks over a height all differ."""
    return ".2f" if height >= 0.05 else ".3f"


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
