"""Writes docs/results.md: the prose below around the tables in ``experiments/results``.

    python docs/generate_results.py

Every figure on the page comes from a committed summary of a sweep, made by
``fedpeft report SWEEP --summary experiments/results/NAME.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
PROSE = ROOT / "docs" / "results.md.j2"
METRICS = (
    ("HR@10", "sampled", "hr@10"),
    ("NDCG@10", "sampled", "ndcg@10"),
    ("NDCG@10, full ranking", "full", "ndcg@10"),
)
TARGET = "test.sampled.ndcg@10"

Cell = Mapping[str, Any]


def number(spread: Mapping[str, float | None]) -> str:
    """Return mean ± standard deviation; the mean alone for one seed."""
    mean, std = spread["mean"], spread["std"]
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def tables(name: str) -> str:
    """Return the tables of one summary, one for each facet, with where they come from."""
    path = RESULTS / f"{name}.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in result["cells"] if cell["seeds"]]
    compared = result["compare"]["axis"]
    commits = sorted({commit[:12] for cell in cells for commit in cell["commits"]})
    splits = sorted({split[:16] for cell in cells for split in cell["splits"]})
    done, asked = sum(len(c["seeds"]) for c in cells), sum(result["status"].values())
    unfinished = "" if done == asked else f" ({done} of {asked} runs are done)"
    head = (
        f"From [{path.name}](../experiments/results/{path.name}), made by "
        f"`{result['command']}`{unfinished}; seeds {some(result['seeds'])}; "
        f"commit {some(commits)}; split {some(splits)}.\n"
    )

    def facet(cell: Cell) -> tuple[str, ...]:
        return tuple(label for axis, label in cell["labels"].items() if axis != compared)

    parts = [
        table(labels, list(found), compared, result["compare"]["reference"])
        for labels, found in groupby(sorted(cells, key=facet), facet)
    ]
    return "\n".join([head, *parts])


def some(values: Sequence[Any]) -> str:
    """Return a list in words, as code."""
    return ", ".join(f"`{value}`" for value in values)


def table(labels: Sequence[str], cells: Sequence[Cell], compared: str, reference: str) -> str:
    """Return one table: a row per cell, then its floors."""
    against = next((c for c in cells if c["labels"][compared] == reference), None)
    data = cells[0]["dataset"]
    size = ", ".join(f"{data[what]:,} {what}" for what in ("users", "items", "interactions"))
    lines = [
        f"**{', '.join(labels)}** ({data['name']}: {size})\n",
        f"| | seeds | {' | '.join(name for name, *_ in METRICS)} | NDCG@10 against {reference} "
        f"| bytes a round, both ways | MB a client, whole run | MB to 95 % of {reference} |",
        "|---" * (len(METRICS) + 6) + "|",
        *(row(cell, compared, against) for cell in cells),
        *floors(cells[0]),
    ]
    return "\n".join(lines) + "\n"


def row(cell: Cell, compared: str, against: Cell | None) -> str:
    """Return the line of one cell."""
    size, target = cell["bytes"], cell["bytes_to_target"]
    total = size["total_per_client_mean"]
    share = ""
    if against is not None and against is not cell:
        share = f" ({total / against['bytes']['total_per_client_mean']:.1%})"
    both_ways = sum(size[f"{way}_per_client_round"] for way in ("upload", "download"))
    figures = [
        cell["labels"][compared],
        str(len(cell["seeds"])),
        *(number(cell["test"][ranking][metric]) for _, ranking, metric in METRICS),
        difference(cell["differences"].get(TARGET)),
        f"{both_ways:,.0f}",
        f"{total / 1e6:.2f}{share}",
        "not reached" if target is None else f"{target / 1e6:.2f}",
    ]
    return f"| {' | '.join(figures)} |"


def claims(name: str) -> str:
    """Return, for each P- cell with a reference, how it stands to the claim, computed."""
    result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    compared, reference = result["compare"]["axis"], result["compare"]["reference"]
    lines = []
    for cell in result["cells"]:
        labels = {k: v for k, v in cell["labels"].items() if k != compared}
        against = next(c for c in result["cells"] if c["labels"] == {**labels, compared: reference})
        found = cell["differences"].get(TARGET)
        std = against["test"]["sampled"]["ndcg@10"]["std"] if against["seeds"] else None
        if not cell["labels"][compared].startswith("P-") or found is None or std is None:
            continue
        share = cell["bytes"]["total_per_client_mean"] / against["bytes"]["total_per_client_mean"]
        target = cell["bytes_to_target"]
        reached = (
            "95 % not reached"
            if target is None
            else f"{against['bytes_to_target'] / target:.1f} times fewer bytes to 95 %"
        )
        held = "within" if found["mean"] >= -std else "not within"
        lines.append(
            f"- {', '.join([*labels.values(), cell['labels'][compared]])}: {share:.1%} of the "
            f"bytes, {found['mean']:+.4f} NDCG@10, {held} one standard deviation ({std:.4f}); "
            f"{reached}."
        )
    return "\n".join(lines) + "\n"


def difference(found: Mapping[str, Any] | None) -> str:
    """Return a paired difference with its interval and what it means."""
    if found is None:
        return "-"
    if found["low"] is None:
        return f"{found['mean']:+.4f} (one seed)"
    interval = f"{found['low']:+.4f} to {found['high']:+.4f}"
    return f"{found['mean']:+.4f} ({interval}: {found['verdict']})"


def floors(cell: Cell) -> Iterator[str]:
    """Return the lines of the floors."""
    names = sorted({key.split(".")[1] for key in cell["floors"]})
    for name in names:
        figures = (
            f"{cell['floors'][f'floor.{name}.test.{ranking}.{metric}']:.4f}"
            for _, ranking, metric in METRICS
        )
        yield f"| floor: {name} | | {' | '.join(figures)} | | | | |"


def main() -> None:
    """Write the page: ``{{ tables("NAME") }}`` in the prose stands for a summary's tables."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    text = page.from_string(PROSE.read_text(encoding="utf-8")).render(tables=tables, claims=claims)
    (ROOT / "docs" / "results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
