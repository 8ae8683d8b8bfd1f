"""Labelled lines over one another: every line's name and last value stand at its right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from fedpeft.report.theme import inline, label_margin

_LABEL_GAP = 15.0  # pixels between the centres of two labels


@dataclass(frozen=True)
class Line:
    """One labelled line.

    Attributes
    ----------
    points
        (x, value); none for a rule at the height of `level`, such as a floor.
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
    margin = label_margin([f"0.000  {curve.label}" for curve in curves], width)
    heard = [y for c in curves for _, y in c.points] + [c.level for c in curves]
    low, high = _domain(heard + [y for c in curves for _, *ends in c.errors for y in ends])
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
        axis=alt.Axis(title=None, ticks=False, tickCount=5, format=".2f"),
    )
    heights = spread([_pixel(c.level, low, high, height) for c in curves], _LABEL_GAP, height)
    layers: list[Any] = []
    if behind is not None:
        values = [{"x": px, "y": py} for px, py in behind.points]
        layers.append(
            alt.Chart(inline(values))
            .mark_line(strokeWidth=1.2)
            .encode(x=x, y=y, stroke=alt.value(behind.color))
        )
    for curve, at in zip(curves, heights, strict=True):
        color = alt.value(curve.color)
        start = curve.points or [(first, curve.level)]
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
        if curve.errors:
            bars = [{"x": ex, "y": below, "y2": above} for ex, below, above in curve.errors]
            layers.append(
                alt.Chart(inline(bars))
                .mark_rule(strokeWidth=1.2, opacity=0.8)
                .encode(x=x, y=y, y2="y2:Q", color=color)
            )
        layers.append(_label(curve, at, margin))
    return alt.layer(*layers).properties(width=width - margin - 44, height=height)


def _label(curve: Line, at: float, margin: int) -> Any:
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


def _ends(xs: Sequence[float], axis: Axis) -> tuple[float, float]:
    """Return where the axis begins and ends; one value alone would have no width."""
    if not axis.log:
        return 0.0, max(xs) or 1.0
    first, last = min(xs), max(xs)
    return (first, last) if first < last else (first / 2, last * 2)


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
