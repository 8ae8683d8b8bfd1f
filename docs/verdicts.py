"""How the committed results stand to what the project claims; for ``generate_results.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fedpeft.report.sweeps import CellResult, Facet, facets, paired_interval, read_records
from fedpeft.report.sweeps.cells import MAIN

SEEDS = 3
"""Seeds that a verdict on accuracy should have; with two it is marked."""
RESULTS = Path(__file__).resolve().parents[1] / "experiments" / "results"


def sweep(name: str) -> list[Facet]:
    """Return those facets of a committed sweep in which something has run, data set by data set."""
    found = facets(read_records(RESULTS / f"{name}.jsonl"))
    return [facet for facet in found if any(cell.rows for cell in facet.cells)]


def allowed(cell: CellResult) -> float:
    """Return the share of the full table's bytes that the claim allows."""
    return 0.15 if cell.labels["strategy"].startswith("P-RQ") else 0.125


def verdict(cell: CellResult, full: CellResult) -> str:
    """Return how a cell stands to the claim: its bytes, and accuracy within one deviation.

    `full` is the full table that it is held against, of any width of vectors or values.
    """
    column = f"test.{MAIN}"
    found = paired_interval(cell.values(column), full.values(column))
    standard = full.metric(MAIN)
    if found is None or standard is None or cell.total_bytes is None or full.total_bytes is None:
        return "not run"
    share, std = cell.total_bytes / full.total_bytes, standard.std
    judged = std is not None and found.low is not None
    told = f"{found.mean:+.4f} at {share:.1%}"
    if found.seeds < SEEDS:
        told += f" ({found.seeds} seed{'s' * (found.seeds > 1)})"
    missed = [
        name
        for name, failed in (
            ("accuracy", judged and found.mean < -(std or 0.0)),
            ("bytes", share > allowed(cell)),  # known from one seed
        )
        if failed
    ]
    if missed:
        return f"{told}: lost ({' and '.join(missed)})"
    return f"{told}: **won**" if judged else f"{told}: no verdict"


def verdicts(name: str, strategies: Sequence[str], full: str = "Full") -> str:
    """Return the verdict on some strategies, for every backbone and data set of a grid."""
    lines = [
        f"| | seeds | {full}: NDCG@10 | {' | '.join(strategies)} |",
        "|---" * (3 + len(strategies)) + "|",
    ]
    for facet, cells in _cells(name):
        standard = cells[full]
        figures = f"{len(standard.rows) or '-'} | {standard.metric(MAIN) or '-'}"
        told = " | ".join(verdict(cells[strategy], standard) for strategy in strategies)
        lines.append(f"| {facet.title} | {figures} | {told} |")
    return "\n".join(lines) + "\n"


def _cells(name: str) -> Iterator[tuple[Facet, dict[str, CellResult]]]:
    """Yield every facet of a grid with its cells by strategy."""
    for facet in facets(read_records(RESULTS / f"{name}.jsonl")):
        yield facet, {cell.labels["strategy"]: cell for cell in facet.cells}


def count(name: str, strategies: Sequence[str], full: str = "Full") -> str:
    """Return in how many cells of a grid some strategies were run, and how many they won."""
    told = [
        [verdict(cells[strategy], cells[full]) for strategy in strategies]
        for _, cells in _cells(name)
    ]
    run = [found for found in told if any(each != "not run" for each in found)]
    open_ = sum(all(each.endswith(("no verdict", "not run")) for each in found) for found in run)
    won = [[each.endswith("**won**") for each in found] for found in run]
    whole = [each for each, found in zip(won, run, strict=True) if "not run" not in found]
    text = f"run in {len(run)} of {len(told)} cells"
    if open_:
        text += f" ({open_} with one seed, so without a verdict)"
    text += f", won in {sum(map(any, won))} by at least one of the {len(strategies)}"
    if whole:
        text += f"; {len(whole)} have all of them, of which {sum(map(all, whole))} won by each"
    return text


def claims(name: str) -> str:
    """Return, for each P- cell with a reference, how it stands to the claim."""
    lines = []
    for facet in sweep(name):
        for cell in facet.cells:
            label = cell.labels["strategy"]
            if not label.startswith("P-") or not cell.differences or cell.reference is None:
                continue
            target, full = cell.target_bytes, cell.reference.target_bytes
            fewer = f"{full / target:.1f} times fewer" if target and full else "not reached"
            told = verdict(cell, cell.reference)
            lines.append(f"- {facet.title}, {label}: {told}; bytes to 95 % of Full: {fewer}.")
    return "\n".join(lines) + "\n"


def exceptions(name: str) -> str:
    """Return where a P- cell is below popularity, or on shared seeds not above its C- cell."""
    lines, checked = [], 0
    for facet in sweep(name):
        cells = {cell.labels["strategy"]: cell for cell in facet.cells if cell.rows}
        floor = facet.floors()["popularity"][f"test.{MAIN}"]
        for label, cell in cells.items():
            if not label.startswith("P-"):
                continue
            checked += 1
            alone = cells.get(f"C-{label[2:]}")
            column = f"test.{MAIN}"
            found = alone and paired_interval(cell.values(column), alone.values(column))
            said = []
            if cell.level < floor:
                said.append(f"{cell.level:.4f} is below popularity, {floor:.4f}")
            if found and found.mean <= 0:
                seeds = f"{found.seeds} seed{'s' * (found.seeds > 1)}"
                said.append(f"{found.mean:+.4f} against C-{label[2:]} ({seeds})")
            if said:
                lines.append(f"- {facet.title}, {label}: {'; '.join(said)}.")
    return "\n".join(lines or [f"- None, in {checked} cells."]) + "\n"
