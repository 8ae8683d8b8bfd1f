"""The tables of a comparison, as text, JSON or for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from fedpeft.report.compare import Comparison, Row
from fedpeft.report.verdicts import METRICS, SIGNS, told

COLUMNS = (
    "Run",
    *METRICS.values(),
    "Bytes / client / round",
    "MB / client",
    "% of full",
    "MB to target",
)
"""Headings of the table."""


def cells(row: Row) -> list[str]:
    """Return a row as text, one cell per entry of `COLUMNS`."""
    is_baseline = row.total_bytes is None
    return [
        row.label,
        "-" if row.ndcg10_full is None else f"{row.ndcg10_full:.4f}",
        f"{row.ndcg10:.4f}",
        f"{row.hr10:.4f}",
        "-" if row.round_bytes is None else f"{row.round_bytes:,.0f}",
        "-" if row.total_bytes is None else megabytes(row.total_bytes),
        "-" if row.percent_of_full is None else f"{row.percent_of_full:.1f}",
        "-"
        if is_baseline
        else "never"
        if row.target_bytes is None
        else megabytes(row.target_bytes),
    ]


def megabytes(count: float) -> str:
    """Return bytes as megabytes (1,000,000 bytes), without the unit; few are not shown as none."""
    if 0 < count < 500:
        return "<0.001"
    return f"{count / 1e6:,.3f}" if count < 1e6 else f"{count / 1e6:,.2f}"


def verdict_table(compared: Comparison) -> list[list[str]]:
    """Return headings, and a line for each run that is held against the reference; empty if none.

    A line has the run's label, for each metric the difference with its verdict and interval, and
    what they say together.
    """
    lines = [
        [
            row.label,
            *(told(gap) if (gap := row.differences.get(name)) else "-" for name in METRICS),
            f"{SIGNS[row.verdict]}{row.verdict}",
        ]
        for row in compared.rows
        if row.verdict is not None
    ]
    heads = [f"Against {compared.reference_label}", *METRICS.values(), "In all"]
    return [heads, *lines] if lines else []


def as_rich(compared: Comparison) -> list[Table]:
    """Return the tables for a terminal; print `Comparison.notes` beside them."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    lines = [cells(row) for row in (*compared.rows, *compared.baselines)]
    for index, heading in enumerate(COLUMNS):
        # cells are never cut or broken; what a narrow terminal lacks is taken from the headings
        shown = [line[index] for line in lines]
        heading = heading.replace(" /", "\u00a0/")  # no stroke stands alone on a line
        width = max(map(len, [*shown, *heading.split(" ")]))
        table.add_column(
            "\n".join(wrap(heading, width)),
            justify="left" if index == 0 else "right",
            no_wrap=True,
        )
    for number, line in enumerate(lines):
        is_baseline = number >= len(compared.rows)
        end_section = number == len(compared.rows) - 1
        style = "dim" if is_baseline else None
        table.add_row(*map(escape, line), style=style, end_section=end_section)
    if not (verdicts := verdict_table(compared)):
        return [table]
    below = Table(*map(escape, verdicts[0]), box=SIMPLE_HEAD, pad_edge=False)
    for line in verdicts[1:]:
        below.add_row(*map(escape, line))
    return [table, below]


def as_text(compared: Comparison) -> str:
    """Return the tables as aligned Markdown, followed by their notes."""
    body = [cells(row) for row in [*compared.rows, *compared.baselines]]
    tables = [_aligned([list(COLUMNS), *body])]
    if verdicts := verdict_table(compared):
        tables.append(_aligned(verdicts))
    return "\n\n".join(tables) + "\n\n" + "\n".join(compared.notes()) + "\n"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first line has the headings; numbers stand at the right."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [
        [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [aligned[0], rule, *aligned[1:]])


def as_json(compared: Comparison) -> dict[str, Any]:
    """Return the table as values for JSON; bytes stay bytes."""
    return {
        "runs": [asdict(row) for row in compared.rows],
        "baselines": [asdict(row) for row in compared.baselines],
        "part": compared.part,
        "target": {"validation_ndcg@10": compared.target, "source": compared.target_source},
        "full": compared.full_label,
        "reference": compared.reference_label,
        "same_split": compared.same_split,
        "warnings": list(compared.warnings),
    }
