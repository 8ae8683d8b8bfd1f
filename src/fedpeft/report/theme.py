"""Colours and chart settings: one look for the page (light and dark) and for pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt

from fedpeft.files import atomic_path

# After Okabe and Ito (2008), darkened or lightened until each reaches a contrast of 3:1 on its
# background; they stay apart for colour-blind readers, and every line is labelled as well.
LIGHT = ("#0072b2", "#c44e00", "#008060", "#a8478a", "#8a6a00", "#3d7ea6", "#5b5b5b")
DARK = ("#56b4e9", "#f28e4b", "#2fc79b", "#e39ac8", "#e6b23c", "#9cc9f0", "#b8b8b8")
TRAFFIC_LIGHT = ("#3f5266", "#a9b8c7", "#d98e00", "#a8478a", "#7a4f2b")
TRAFFIC_DARK = ("#c3d0dd", "#66788a", "#e6b23c", "#e39ac8", "#c49a6c")
"""Upload, download, initial download, resync, expansion: other colours than the runs'."""

DASHES = ([1, 0], [6, 3], [2, 2])
"""Line patterns; the next one starts when the colours are used up."""


@dataclass(frozen=True)
class Theme:
    """Colours as CSS values; `series` starts again after its last one."""

    ink: str
    muted: str
    grid: str
    background: str
    series: tuple[str, ...]
    traffic: tuple[str, ...]
    font: str

    def color(self, index: int) -> str:
        """Return the colour of the series at `index`."""
        return self.series[index % len(self.series)]

    def dash(self, index: int) -> list[int]:
        """Return the line pattern of the series at `index`."""
        return DASHES[index // len(self.series) % len(DASHES)]


PAGE = Theme(
    ink="var(--ink)",
    muted="var(--muted)",
    grid="var(--grid)",
    background="var(--paper)",
    series=tuple(f"var(--series-{i})" for i in range(len(LIGHT))),
    traffic=tuple(f"var(--traffic-{i})" for i in range(len(TRAFFIC_LIGHT))),
    font="system-ui, sans-serif",
)
"""Colours that the page's style sheet sets, so that one drawing serves light and dark."""

PICTURE = Theme(
    ink="#1c1f23",
    muted="#5f6872",
    grid="#e3e6ea",
    background="#ffffff",
    series=LIGHT,
    traffic=TRAFFIC_LIGHT,
    font="Helvetica, Arial, Liberation Sans, sans-serif",
)
"""Fixed colours for pictures outside a page."""


def styled(chart: Any, theme: Theme) -> Any:
    """Return a top-level chart with the theme's fonts and colours and no frame."""
    axis = {
        "domain": False,
        "gridColor": theme.grid,
        "labelColor": theme.muted,
        "labelFontSize": 12,
        "labelPadding": 6,
        "tickColor": theme.grid,
        "titleColor": theme.muted,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    }
    return chart.configure(
        aria=False,  # the page describes its figures; per-mark labels would triple the size
        axis=axis,
        background="transparent" if theme is PAGE else theme.background,
        font=theme.font,
        padding=4,
        text={"color": theme.ink, "fontSize": 12},
        title={
            "anchor": "start",
            "color": theme.ink,
            "fontSize": 13,
            "fontWeight": 600,
            "offset": 8,
            "subtitleColor": theme.muted,
        },
        view={"stroke": None},
    )


def inline(values: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as data that travels inside the chart."""
    return alt.Data(values=list(values))  # type: ignore[no-untyped-call]


def label_margin(texts: Sequence[str], width: int) -> int:
    """Return the pixels that labels beside a chart of `width` pixels may take."""
    needed = 8.0 * max(map(len, texts)) + 16
    return int(min(needed, max(0.42 * width, 130)))


def to_svg(chart: Any) -> str:
    """Return the chart as an SVG element without any address, to be put into a page."""
    text = io.StringIO()
    with alt.data_transformers.enable("default", max_rows=None):
        chart.save(text, format="svg")
    svg = text.getvalue()
    for attribute in (
        ' xmlns="http://www.w3.org/2000/svg"',
        ' xmlns:xlink="http://www.w3.org/1999/xlink"',
    ):
        svg = svg.replace(attribute, "")  # not needed inside HTML
    return svg


def save_png(chart: Any, path: Path, scale: float = 2.0) -> None:
    """Write the chart as a picture, atomically."""
    with atomic_path(path) as temporary, alt.data_transformers.enable("default", max_rows=None):
        chart.save(str(temporary), format="png", scale_factor=scale)
