"""The chart of what crossed the network when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from fedpeft.report.runs import Run, labels
from fedpeft.report.theme import PAGE, Theme, inline, styled

MAX_BINS = 100
"""At most so many bars in a chart of what was sent when."""

TRAFFIC = ("upload", "download", "initial download", "resync", "expansion")
"""Kinds of bytes, in stacking order and in the order of `Theme.traffic`."""


def traffic(
    runs: Sequence[Run], *, width: int = 720, height: int = 130, theme: Theme = PAGE
) -> Any | None:
    """Draw megabytes per round by kind, one panel per run on one scale; None without a log.

    Rounds are averaged over at most `MAX_BINS` bins.  A triangle marks a merge, a rule the end of
    the warm-up.
    """
    panels = [(label, run) for run, label in zip(runs, labels(runs), strict=True) if run.traffic]
    if not panels:
        return None
    binned = [traffic_bins(run) for _, run in panels]
    top = max(sum(b[kind] for kind in TRAFFIC) for bins in binned for b in bins)
    last = max(run.traffic[-1].round for _, run in panels)
    charts = [
        _traffic_panel(
            run,
            label,
            bins,
            (last, top or 1.0),
            (width, height),
            theme,
            bottom=run is panels[-1][1],
        )
        for (label, run), bins in zip(panels, binned, strict=True)
    ]
    return styled(alt.vconcat(*charts, spacing=14), theme)


def traffic_bins(run: Run) -> list[dict[str, float]]:
    """Return the mean megabytes per round of each bin of rounds.

    Returns
    -------
    list of dict
        ``start`` and ``end`` (rounds, end exclusive) and one value per kind of `TRAFFIC`.
    """
    first, last = run.traffic[0].round, run.traffic[-1].round
    size = math.ceil((last - first + 1) / MAX_BINS)
    bins: list[dict[str, float]] = []
    counts: list[int] = []
    for line in run.traffic:
        start = first + (line.round - first) // size * size
        if not bins or bins[-1]["start"] != start:
            bins.append({"start": start, "end": start + size, **dict.fromkeys(TRAFFIC, 0.0)})
            counts.append(0)
        sent = (line.upload, line.download, line.initial_download, line.resync, line.expansion)
        for kind, count in zip(TRAFFIC, sent, strict=True):
            bins[-1][kind] += count / 1e6
        counts[-1] += 1
    for bin_, count in zip(bins, counts, strict=True):
        for kind in TRAFFIC:
            bin_[kind] /= count
    return bins


def _traffic_panel(
    run: Run,
    label: str,
    bins: list[dict[str, float]],
    limits: tuple[float, float],
    size: tuple[int, int],
    theme: Theme,
    *,
    bottom: bool,
) -> Any:
    """Draw one run's stacked bars with its events."""
    (last, top), (width, height) = limits, size
    values: list[dict[str, Any]] = []
    for bin_ in bins:
        base = 0.0
        for kind in TRAFFIC:
            if bin_[kind] > 0:
                values.append({**bin_, "kind": kind, "low": base, "high": base + bin_[kind]})
                base += bin_[kind]
    x_scale = alt.Scale(domain=[run.traffic[0].round, last + 1], nice=False)
    axis = alt.Axis(
        title="Round" if bottom else None,
        titleAnchor="start",
        labels=bottom,
        ticks=bottom,
        grid=False,
        tickCount=6,
    )
    y_scale = alt.Scale(domain=[0, 1.4 * top], nice=False)
    y_axis = alt.Axis(title=None, ticks=False, tickCount=3, format=",~f")
    layers = [
        alt.Chart(inline(values))
        .mark_rect()
        .encode(
            x=alt.X("start:Q", scale=x_scale, axis=axis),
            x2="end:Q",
            y=alt.Y("low:Q", scale=y_scale, axis=y_axis),
            y2="high:Q",
            color=alt.Color(
                "kind:N",
                legend=None,
                scale=alt.Scale(domain=list(TRAFFIC), range=list(theme.traffic)),
            ),
        )
    ]
    layers += _events(run, x_scale, theme)
    return (
        alt.layer(*layers)
        .resolve_scale(color="independent")
        .properties(width=width - 56, height=height, title=label)
    )


def _events(run: Run, x_scale: Any, theme: Theme) -> list[Any]:
    """Draw what happened: a rule where the warm-up ended, a triangle where a merge took place."""
    layers: list[Any] = []
    merges = [{"x": line.round} for line in run.traffic if line.event == "refresh"]
    warm = [{"x": line.round + 1} for line in run.traffic if line.event == "warmup_end"]
    if warm:
        base = alt.Chart(inline(warm)).encode(x=alt.X("x:Q", scale=x_scale))
        layers.append(base.mark_rule(color=theme.ink, strokeDash=[3, 3]))
        layers.append(
            base.mark_text(align="left", baseline="top", dx=5, color=theme.muted).encode(
                y=alt.value(14), text=alt.value("warm-up ends")
            )
        )
    if merges:
        layers.append(
            alt.Chart(inline(merges))
            .mark_point(shape="triangle-down", size=26, filled=True, color=theme.ink, opacity=0.75)
            .encode(x=alt.X("x:Q", scale=x_scale), y=alt.value(5))
        )
    return layers
