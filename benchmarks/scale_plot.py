"""The picture of the scale sweep: processor seconds a round and peak memory, on log axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from fedpeft.files import atomic_path
from fedpeft.report.theme import PICTURE, inline, save_png, styled

AXES = {"items": "Items", "users": "Users", "clients": "Clients a round"}
ADAPTERS = ("rq", "hash", "lora", "full")
HELD = {"items": 100_000, "users": 50_000, "clients": 1000}  # by a sweep over something else


def draw(lines: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write scale.svg and scale.png; nothing when no sweep has a point yet."""
    rows = [_row(line) for line in lines if not line["point"]["end_to_end"]]
    rows = [row for row in rows if row.get("preset", row.get("recipe")) == "fedpeft"]
    if not rows:
        return
    measures = (("seconds", "Processor seconds a round"), ("gigabytes", "Peak memory, GB"))
    chart = alt.vconcat(
        *(
            alt.hconcat(*(_panel(rows, axis, measure, title) for axis in AXES)).resolve_scale(
                y="shared"
            )
            for measure, title in measures
        )
    )
    chart = styled(chart.properties(title="Solid lines: iALS; dashed lines: BPR"), PICTURE)
    save_png(chart, folder / "scale.png")
    with atomic_path(folder / "scale.svg") as path:
        chart.save(str(path), format="svg")


def _row(line: dict[str, Any]) -> dict[str, Any]:
    point = line["point"]
    return {
        **point,
        "loss": {"ials": "iALS", "bpr": "BPR"}[point["loss"]],
        "seconds": line["round_cpu_s"],
        "gigabytes": line["peak_mb"] / 1e3,
    }


def _panel(rows: list[dict[str, Any]], axis: str, measure: str, title: str) -> Any:
    """Draw one measure against one axis, from the points that hold the others fixed."""
    held = {name: value for name, value in HELD.items() if name != axis}
    shown = [row for row in rows if all(row[name] == value for name, value in held.items())]
    if axis != "items":  # the large payloads are swept over items only
        shown = [row for row in shown if row["adapter"] in ("rq", "hash")]
    log = alt.Scale(type="log", nice=False, padding=10)
    colors = alt.Scale(domain=list(ADAPTERS), range=list(PICTURE.series[: len(ADAPTERS)]))
    dashes = alt.Scale(domain=["iALS", "BPR"], range=[[1, 0], [5, 3]])
    ticks = sorted({row[axis] for row in shown})
    return (
        alt.Chart(inline(shown))
        .mark_line(point={"filled": True, "size": 40})
        .encode(
            x=alt.X(
                f"{axis}:Q",
                scale=log,
                title=AXES[axis],
                axis=alt.Axis(values=ticks, format="~s", grid=False),
            ),
            y=alt.Y(
                f"{measure}:Q",
                scale=log,
                title=title if axis == "items" else None,
                axis=alt.Axis(tickCount=4),
            ),
            color=alt.Color("adapter:N", scale=colors, sort=list(ADAPTERS), title="Adapter"),
            strokeDash=alt.StrokeDash("loss:N", scale=dashes, legend=None),
        )
        .properties(width=220, height=170)
    )
