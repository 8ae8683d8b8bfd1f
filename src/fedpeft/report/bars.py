"""The chart of final accuracy against the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from fedpeft.report.compare import baseline_label, require_same_split
from fedpeft.report.runs import Run, common_baselines, common_part, labels
from fedpeft.report.theme import PAGE, Theme, inline, label_margin, styled
from fedpeft.report.verdicts import METRICS

_ONE_ROW = 600  # pixels from which the panels stand side by side


def final_accuracy(
    runs: Sequence[Run],
    *,
    width: int = 720,
    theme: Theme = PAGE,
    allow_different_splits: bool = False,
) -> Any:
    """Draw the three metrics of runs and baselines as bars from zero.

    They are of the test part, or of validation where a run has not read test.
    """
    same_split = require_same_split(runs, allow_different_splits)
    part = common_part(runs)
    entries = [
        (label, run.result.metrics.of(part), theme.color(i))
        for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True))
    ]
    for name, both in (common_baselines(runs) if same_split else {}).items():
        entries.append((baseline_label(name), both.of(part), theme.muted))
    order = [label for label, _, _ in entries]
    panels: list[Any] = []
    columns = len(METRICS) if width >= _ONE_ROW else 1
    margin = label_margin(order, width)
    for column, (name, title) in enumerate(METRICS.items()):
        values = [
            {"label": label, "value": value, "text": f"{value:.3f}", "color": color}
            for label, scores, color in entries
            if (value := scores.metric(name)) is not None
        ]
        if values:
            panels.append(
                _bars(values, title, order, width, margin, columns, first=column % columns == 0)
            )
    grid = alt.concat(*panels, columns=columns, spacing=18).resolve_scale(x="independent")
    return styled(grid, theme)


def _bars(
    values: list[dict[str, Any]],
    title: str,
    order: list[str],
    width: int,
    margin: int,
    columns: int,
    *,
    first: bool,
) -> Any:
    """Draw one metric's bars with their values at the ends."""
    y = alt.Y(
        "label:N",
        sort=order,
        scale=alt.Scale(domain=order),
        axis=alt.Axis(
            title=None,
            ticks=False,
            labelLimit=margin,
            labels=first,
            grid=False,
            minExtent=margin if first else 0,
        ),
    )
    top = max(value["value"] for value in values) or 1.0
    x = alt.X("value:Q", axis=None, scale=alt.Scale(domain=[0, 1.3 * top], nice=False))
    base = alt.Chart(inline(values)).encode(x=x, y=y)
    bars = base.mark_bar(height={"band": 0.66}).encode(color=alt.Color("color:N", scale=None))
    text = base.mark_text(align="left", dx=4).encode(text="text:N")
    plot = (width - margin - 18 * (columns - 1) - 16) // columns
    return alt.layer(bars, text).properties(width=plot, height=alt.Step(24), title=title)
