"""The chart of a whole sweep: every cell's difference to its reference, a row for each facet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import altair as alt

from fedpeft.report.statistics import Interval
from fedpeft.report.sweeps.cells import CellResult, Facet
from fedpeft.report.sweeps.charts import MOST
from fedpeft.report.theme import PAGE, Theme, inline, label_margin, styled
from fedpeft.report.verdicts import MAIN, verdict

_FAR = 6.0
"""Differences beyond so many times their median size stand at the edge, with their figure."""

_PITCH, _PADDING, _LINE = 10, 8, 15
"""Pixels between two cells of a row, around them, and between two lines of its title."""

_SHAPES = ("circle", "square", "diamond")
"""The next one starts when the colours are used up."""

_Side = Literal["left", "right"]


@dataclass(frozen=True)
class _Row:
    """One facet: where it lies, and the means of its differences."""

    title: list[str]
    top: float
    height: float
    deviation: float
    """The reference's, over seeds; 0 with one seed."""
    differences: Mapping[str, Interval]


def overview(
    found: Sequence[Facet],
    *,
    width: int,
    theme: Theme = PAGE,
    only: Sequence[str] | None = None,
) -> Any:
    """Draw the mean paired differences in `MAIN`, with a band of the reference's deviation.

    Parameters
    ----------
    found
        A row each; those in which nothing was compared are left out.
    only
        Names of the cells to show; all by default.

    Returns
    -------
    chart or None
        None with fewer than two rows, or with more names than a reader can tell apart.
    """
    rows: list[_Row] = []
    for facet in found:
        differences = {
            facet.name(cell): cell.differences[MAIN]
            for cell in facet.cells
            if MAIN in cell.differences and (only is None or facet.name(cell) in only)
        }
        if differences:
            title = facet.title.split(", ")
            height = max(_PITCH * len(differences), _LINE * len(title)) + _PADDING
            top = rows[-1].top + rows[-1].height if rows else 0.0
            rows.append(_Row(title, top, height, _deviation(facet.reference), differences))
    heard = {name for row in rows for name in row.differences}
    every = dict.fromkeys(facet.name(cell) for facet in found for cell in facet.cells)
    # numbered like the rows of the tables, so that a cell has one colour on the whole page
    names = {name: at for at, name in enumerate(only or every) if name in heard}
    if len(rows) < 2 or len(names) > MOST:
        return None
    return styled(_layers(rows, names, width, theme), theme)


def _deviation(reference: CellResult | None) -> float:
    score = reference.metric(MAIN) if reference is not None else None
    return (score.std or 0.0) if score is not None else 0.0


def _layers(rows: Sequence[_Row], names: Mapping[str, int], width: int, theme: Theme) -> Any:
    """Layer the deviations, zero, the rows' titles, the dots, and the figures of far ones."""
    edge = _edge([d.mean for row in rows for d in row.differences.values()])
    margin = label_margin([line for row in rows for line in row.title], width)
    bottom = rows[-1].top + rows[-1].height
    x = alt.X(
        "x:Q",
        scale=alt.Scale(domain=[-edge, edge], nice=False),
        axis=alt.Axis(
            title="Difference in NDCG@10 full",  # a phone has no room for more
            titleAnchor="start",
            format="+.3f",
            tickCount=max(3, (width - margin) // 110),
            labelOverlap=True,
            labelSeparation=12,
        ),
    )
    # an empty axis keeps the room for the titles, whatever font the reader has
    room = alt.Axis(
        title=None, labels=False, ticks=False, grid=False, minExtent=margin, maxExtent=margin
    )
    y = alt.Y("y:Q", scale=alt.Scale(domain=[bottom, 0], nice=False), axis=room)
    color, shape = _legend(names, width, theme)
    near, far = _places(rows, edge)
    bands = [
        {
            "x": -min(row.deviation, edge),
            "x2": min(row.deviation, edge),
            "y": row.top + 2,
            "y2": row.top + row.height - 2,
        }
        for row in rows
    ]
    titles = [
        {"y": row.top + row.height / 2 - _LINE * (len(row.title) - 1) / 2, "title": row.title}
        for row in rows
    ]
    layers = [
        alt.Chart(inline(bands))
        .mark_rect(color=theme.muted, opacity=0.2)
        .encode(x=x, x2="x2:Q", y=y, y2="y2:Q"),
        alt.Chart(inline([{"x": 0}])).mark_rule(color=theme.muted).encode(x=x),
        alt.Chart(inline(titles))
        .mark_text(align="right", baseline="middle", dx=-10, limit=margin, lineHeight=_LINE)
        .encode(x=alt.value(0), y=y, text="title:N"),
        alt.Chart(inline(near))
        .mark_point(size=46, strokeWidth=1.6, opacity=1)
        .encode(
            x=x,
            y=y,
            color=color,
            fill=color,
            shape=shape,
            fillOpacity=alt.FillOpacity("opacity:Q", scale=None, legend=None),
        ),
    ]
    for align, values in far.items():
        if values:
            mark = alt.Chart(inline(values)).mark_text(align=align, fontSize=10)
            layers.append(mark.encode(x=x, y=y, color=color, text="text:N"))
    return alt.layer(*layers).properties(width=width - margin - 30, height=bottom)


def _legend(names: Mapping[str, int], width: int, theme: Theme) -> tuple[Any, Any]:
    """Return the encodings that tell the cells apart, with one legend for both."""
    legend = alt.Legend(
        title=None,
        orient="top",
        columns=max(1, width // (8 * max(map(len, names)) + 40)),
        labelColor=theme.ink,
        labelFontSize=12,
    )
    colors = [theme.color(at) for at in names.values()]
    shapes = [_SHAPES[at // len(theme.series) % len(_SHAPES)] for at in names.values()]
    color, shape = (alt.Scale(domain=list(names), range=looks) for looks in (colors, shapes))
    return (
        alt.Color("label:N", scale=color, legend=legend),
        alt.Shape("label:N", scale=shape, legend=legend),
    )


def _places(
    rows: Sequence[_Row], edge: float
) -> tuple[list[dict[str, Any]], dict[_Side, list[dict[str, Any]]]]:
    """Return the dots inside the axis, and the figures of those beyond it by their alignment."""
    near: list[dict[str, Any]] = []
    far: dict[_Side, list[dict[str, Any]]] = {"left": [], "right": []}
    for row in rows:
        first = row.top + row.height / 2 - _PITCH * (len(row.differences) - 1) / 2
        for index, (name, found) in enumerate(row.differences.items()):
            place = {"x": found.mean, "y": first + _PITCH * index, "label": name}
            if abs(found.mean) <= edge:
                decided = verdict(found) in ("won", "lost")
                near.append({**place, "opacity": 1 if decided else 0})
            elif found.mean < 0:
                far["left"].append({**place, "x": -edge, "text": f"\u2190 {found.mean:+.3f}"})
            else:
                far["right"].append({**place, "x": edge, "text": f"{found.mean:+.3f} \u2192"})
    return near, far


def _edge(values: Sequence[float]) -> float:
    """Return how far the axis reaches to either side; few far values do not flatten the others."""
    sizes = [abs(value) for value in values]
    return max(1.1 * min(max(sizes), _FAR * median(sizes)), 0.002)
