"""The picture of the costs: bytes of a round and of a run against the size of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt

from fedpeft.cost import AS_SET, Cost
from fedpeft.files import atomic_path
from fedpeft.report.theme import PICTURE, inline, save_png, styled

LINES = {
    "Full": ("Full", AS_SET),
    "Full, int8": ("Full", "int8"),
    "P-LoRA r=4": ("P-LoRA r=4", AS_SET),
    "P-RQ 256 x 4": ("P-RQ 256 x 4", AS_SET),
    "P-Hash 512 x 2": ("P-Hash 512 x 2", AS_SET),
    "P-Hash-SENet 512 x 2": ("P-Hash-SENet 512 x 2", AS_SET),
}
"""Name in the picture -> label and encoding."""
COLORS = (*PICTURE.series[:1], PICTURE.muted, *PICTURE.series[1:5])
PANELS = {"round": "Bytes of a round, both directions", "total": "Bytes of a run, both directions"}


def draw(points: Mapping[int, Sequence[Cost]], warmup: str, folder: Path) -> None:
    """Write cost.svg and cost.png: costs by number of items, with warm-ups of so many rounds."""
    rows = [
        {
            "items": items,
            "line": line,
            "round": sent.upload_round + sent.download_round,
            "total": sent.total,
        }
        for items, found in points.items()
        for line, (label, encoding) in LINES.items()
        for cost in found
        if cost.label == label
        for sent in [cost.sent_as(encoding)]
    ]
    chart = alt.hconcat(*(_panel(rows, measure, title) for measure, title in PANELS.items()))
    chart = styled(
        chart.properties(
            title=alt.Title(
                "What one client sends and receives",
                subtitle=[
                    "k = 32; a run is 1000 rounds with 10 % of the clients each, with adapters "
                    f"{warmup} of them warm-up; mean over clients, all downloads included",
                    "values as the preset sends them, but for the dashed line: int8 both ways",
                ],
            )
        ),
        PICTURE,
    )
    save_png(chart, folder / "cost.png")
    with atomic_path(folder / "cost.svg") as path:
        chart.save(str(path), format="svg")


def _panel(rows: list[dict[str, Any]], measure: str, title: str) -> Any:
    """Draw one measure against the number of items, both axes logarithmic."""
    log = alt.Scale(type="log", nice=False, padding=12)
    ticks = sorted({row["items"] for row in rows})
    dashes = [[5, 3] if "int8" in line else [1, 0] for line in LINES]
    return (
        alt.Chart(inline(rows))
        .mark_line(point={"filled": True, "size": 36})
        .encode(
            x=alt.X("items:Q", scale=log, title="Items", axis=alt.Axis(values=ticks, format="~s")),
            y=alt.Y(
                f"{measure}:Q",
                scale=log,
                title=title,
                axis=alt.Axis(values=[10**power for power in range(4, 13)], format="~s"),
            ),
            color=alt.Color(
                "line:N",
                scale=alt.Scale(domain=list(LINES), range=list(COLORS)),
                sort=list(LINES),
                legend=alt.Legend(
                    title=None,
                    orient="bottom",
                    columns=6,
                    labelLimit=260,
                    symbolType="stroke",
                    symbolStrokeWidth=2,
                ),
            ),
            strokeDash=alt.StrokeDash(
                "line:N", scale=alt.Scale(domain=list(LINES), range=dashes), legend=None
            ),
        )
        .properties(width=330, height=280)
    )
