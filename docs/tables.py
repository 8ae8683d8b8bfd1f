"""Tables of the committed sweeps as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedpeft.report.compare import baseline_label
from fedpeft.report.sweeps import CellResult, Facet, read_records
from fedpeft.report.verdicts import METRICS, SIGNS, told
from quotes import RESULTS, by_strategy, sweep


def tables(name: str) -> str:
    """Return the tables of one sweep, one for each facet, with where they come from."""
    records = read_records(RESULTS / f"{name}.jsonl")
    done = [row for row in records.rows if row["status"] == "done"]
    unfinished = (
        "" if len(done) == len(records.rows) else f" ({len(done)} of {len(records.rows)} runs)"
    )

    head = (
        f"From [{name}.jsonl](../experiments/results/{name}.jsonl), made by "
        f"`{records.facts.command}`{unfinished}; commit {all_of(done, 'commit', 12)}; split "
        f"{all_of(done, 'split', 16)}.\n"
    )
    return "\n".join([head, *map(table, sweep(name))])


def all_of(rows: Sequence[Mapping[str, Any]], column: str, digits: int) -> str:
    """Return the first digits of what rows have in a column."""
    return ", ".join(sorted({f"`{row[column][:digits]}`" for row in rows}))


def table(facet: Facet) -> str:
    """Return one table: a row per cell, then the baselines."""
    data = next(row for cell in facet.cells for row in cell.rows.values())
    size = ", ".join(f"{data[f'dataset.{key}']:,} {key}" for key in ("users", "items"))
    reference = facet.reference.labels[facet.axes[0]] if facet.reference else "the full table"
    lines = [
        f"**{facet.title or data['dataset.name']}** ({size}, "
        f"{data['dataset.interactions']:,} interactions)\n",
        f"| | seeds | {' | '.join(METRICS.values())} | against {reference} | bytes a round, both "
        f"ways | MB a client, whole run | MB to 95 % of {reference} |",
        "|---" * 9 + "|",
        *(row(facet, cell) for cell in facet.cells if cell.rows),
        *baselines(facet),
    ]
    return "\n".join(lines) + "\n"


def row(facet: Facet, cell: CellResult) -> str:
    """Return the line of one cell."""
    figures = [
        facet.name(cell),
        ", ".join(map(str, cell.rows)),
        *(scored(cell, name) for name in METRICS),
        "" if cell.verdict is None else f"{SIGNS[cell.verdict]}{cell.verdict}",
        f"{cell.round_bytes or 0:,.0f}",
        f"{(cell.total_bytes or 0) / 1e6:.2f}"
        + ("" if cell.share is None or cell is cell.reference else f" ({cell.share:.1%})"),
        "not reached" if cell.target_bytes is None else f"{cell.target_bytes / 1e6:.2f}",
    ]
    return f"| {' | '.join(figures)} |"


def scored(cell: CellResult, metric: str) -> str:
    """Return a cell's metric and, below it, how that stands to its reference."""
    gap = cell.differences.get(metric)
    return f"{cell.metric(metric) or '-'}" + ("" if gap is None else f"<br>{told(gap)}")


def baselines(facet: Facet) -> Iterator[str]:
    """Return the lines of the baselines."""
    for name, metrics in facet.baselines().items():
        figures = (f"{metrics[f'test.{metric}']:.4f}" for metric in METRICS)
        yield f"| {baseline_label(name)} | | {' | '.join(figures)} | | | | |"


def against(name: str, compared: Sequence[tuple[str, str]]) -> str:
    """Return how cells differ from others of the same facet: for each pair the other's test metrics
    and what the first adds to them, a row for each facet in which a pair has run.
    """
    heads = (f"{other} | {strategy} against it" for strategy, other in compared)
    lines = [f"| | {' | '.join(heads)} |", "|---" * (1 + 2 * len(compared)) + "|"]
    for facet, cells in by_strategy(name):
        figures: list[str] = []
        for strategy, other in compared:
            mine, its = cells.get(strategy), cells.get(other)
            gaps = [mine.difference(its, metric) for metric in METRICS] if mine and its else []
            known = [gap for gap in gaps if gap is not None]
            if len(known) < len(METRICS):
                figures += ["-", "-"]
            else:
                figures += [in_lines(its), "<br>".join(map(told, known))]
        if set(figures) != {"-"}:
            lines.append(f"| {facet.title} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def in_lines(cell: CellResult) -> str:
    """Return a cell's metrics below one another."""
    return "<br>".join(str(cell.metric(name) or "-") for name in METRICS)


def ablation(name: str) -> str:
    """Return an ablation's test metrics and share of the bytes: a table for each data set.

    Of the two axes that vary, the second gives the columns; a single one gives the rows.
    """
    done = [row for row in read_records(RESULTS / f"{name}.jsonl").rows if row["status"] == "done"]
    lines = [
        f"From [{name}.jsonl](../experiments/results/{name}.jsonl); commit "
        f"{all_of(done, 'commit', 12)}; split {all_of(done, 'split', 16)}."
    ]
    by_source: dict[str, list[CellResult]] = {}
    for facet in sweep(name):
        for cell in facet.cells:
            if cell.rows:
                by_source.setdefault(cell.labels["data.source"], []).append(cell)
    for source, cells in by_source.items():
        down, across = [*(axis for axis in cells[0].labels if axis != "data.source"), ""][:2]
        found: dict[str, dict[str, str]] = {}
        for cell in cells:
            column = cell.labels.get(across, ", ".join(METRICS.values()))
            found.setdefault(cell.labels[down], {})[column] = _in_short(cell)
        columns = list(dict.fromkeys(column for row in found.values() for column in row))
        seeds = sorted({seed for cell in cells for seed in cell.rows})
        lines += [
            f"\n**{source}**, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}\n",
            f"| {_term(down)} | {' | '.join(_columns(across, columns))} |",
            "|---" * (1 + len(columns)) + "|",
            *(
                f"| {label} | {' | '.join(row.get(column, '-') for column in columns)} |"
                for label, row in found.items()
            ),
        ]
    return "\n".join(lines) + "\n"


def _in_short(cell: CellResult) -> str:
    """Return a cell's metrics and its share of the bytes."""
    share = "" if cell.share is None or cell is cell.reference else f" ({cell.share:.1%})"
    return f"{in_lines(cell)}{share}"


def _term(axis: str) -> str:
    return axis.rpartition(".")[2]


def _columns(axis: str, labels: Sequence[str]) -> list[str]:
    """Return column titles, with the axis's name where a label is a number."""
    return [f"{_term(axis)} {label}" if label[:1].isdigit() else label for label in labels]
