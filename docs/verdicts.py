"""How the committed results stand to what the project claims; for ``generate_results.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fedpeft.report.sweeps import CellResult
from fedpeft.report.sweeps.cells import MAIN
from quotes import by_strategy, fewer, sweep

NOT_RUN = "not run"
SEEDS = 3
"""Seeds that a verdict on accuracy should have; with two it is marked."""


def allowed(cell: CellResult) -> float:
    """Return the share of the full table's bytes that the claim allows."""
    return 0.15 if cell.labels["strategy"].startswith("P-RQ") else 0.125


def verdict(cell: CellResult, full: CellResult) -> str:
    """Return how a cell stands to the claim: its bytes, and accuracy within one deviation.

    `full` is the full table that it is held against, of any width of vectors or values.
    """
    found = cell.difference(full, f"test.{MAIN}")
    standard = full.metric(MAIN)
    if found is None or standard is None or cell.total_bytes is None or full.total_bytes is None:
        return NOT_RUN
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
    """Return the verdicts on some strategies, for every backbone and data set that has any."""
    lines = [
        f"| | seeds | {full}: NDCG@10 | {' | '.join(strategies)} |",
        "|---" * (3 + len(strategies)) + "|",
    ]
    for facet, cells in by_strategy(name):
        told = [verdict(cells[strategy], cells[full]) for strategy in strategies]
        if any(each != NOT_RUN for each in told):
            figures = f"{len(cells[full].rows)} | {cells[full].metric(MAIN)}"
            shown = " | ".join("-" if each == NOT_RUN else each for each in told)
            lines.append(f"| {facet.title} | {figures} | {shown} |")
    return "\n".join(lines) + "\n"


def won(name: str, strategies: Sequence[str], full: str = "Full") -> str:
    """Return how many cells at least one of some strategies won, of those with a verdict."""
    told = [
        [verdict(cells[strategy], cells[full]) for strategy in strategies]
        for _, cells in by_strategy(name)
    ]
    judged = [each for each in told if any(e.endswith(("**won**", ")")) for e in each)]
    return f"{sum(any(e.endswith('**won**') for e in each) for each in judged)} of {len(judged)}"


def swept(name: str, strategies: Sequence[str]) -> str:
    """Return the titles of the cells that each of some strategies won."""
    found = [
        facet.title
        for facet, cells in by_strategy(name)
        if all(verdict(cells[each], cells["Full"]).endswith("**won**") for each in strategies)
    ]
    return "; ".join(found) or "none"


def tally(name: str, strategies: Sequence[str], full: str = "Full") -> str:
    """Return how often some strategies won or lost, and what for."""
    found = Counter(
        verdict(cells[strategy], cells[full]).partition(": ")[2]
        for _, cells in by_strategy(name)
        for strategy in strategies
    )
    lost = {
        f"lost on {what}": found[f"lost ({what})"]
        for what in ("accuracy", "bytes", "accuracy and bytes")
    }
    told = {"won": found["**won**"], **lost, "without a verdict": found["no verdict"]}
    told["not run"] = found[""]
    return ", ".join(f"{count} {what}" for what, count in told.items() if count)


def doubtful(name: str, strategies: Sequence[str]) -> tuple[int, int]:
    """Return how many losses on accuracy are within noise, and how many wins reliably lower."""
    lost = lower = 0
    for _, cells in by_strategy(name):
        for strategy in strategies:
            told = verdict(cells[strategy], cells["Full"])
            noise = cells[strategy].differences.get(MAIN)
            if noise is not None:
                lost += "lost (accuracy" in told and noise.verdict == "within noise"
                lower += told.endswith("**won**") and noise.verdict == "below"
    return lost, lower


def deviations(name: str) -> str:
    """Return the range of the full table's deviation over the seeds, over the cells of a grid."""
    found = [
        score.std
        for _, cells in by_strategy(name)
        if (score := cells["Full"].metric(MAIN)) is not None and score.std is not None
    ]
    return f"{min(found):.4f} to {max(found):.4f}"


def claims(name: str, title: str, strategies: Sequence[str]) -> str:
    """Return a table of some cells of one facet: accuracy, bytes, and how they stand to the claim.

    A cell that is no adapter makes no claim.
    """
    lines = [
        "| | seeds | NDCG@10 | against Full | MB a client | times fewer to 95 % | the claim |",
        "|---" * 7 + "|",
    ]
    cells = next(cells for facet, cells in by_strategy(name) if facet.title == title)
    for strategy in strategies:
        cell, full = cells[strategy], cells["Full"]
        gap = cell.differences.get(MAIN)
        seeds, score = len(cell.rows), cell.metric(MAIN)
        against = "-" if gap is None else f"{gap.mean:+.4f} ({gap.verdict})"
        size = f"{(cell.total_bytes or 0) / 1e6:.2f} ({cell.share or 0:.1%})"
        told = verdict(cell, full).partition(": ")[2] if strategy.startswith("P-") else ""
        lines.append(
            f"| {strategy} | {seeds} | {score} | {against} | {size} | {fewer(cell)} | {told} |"
        )
    return "\n".join(lines) + "\n"


def targets(name: str, strategies: Sequence[str]) -> str:
    """Return how many times fewer bytes than Full some strategies take to 95 % of it, by cell."""
    lines = [f"| | {' | '.join(strategies)} |", "|---" * (1 + len(strategies)) + "|"]
    for facet in sweep(name):
        cells = {cell.labels["strategy"]: cell for cell in facet.cells}
        told = " | ".join(fewer(cells[strategy]) for strategy in strategies)
        lines.append(f"| {facet.title} | {told} |")
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
            found = alone and cell.difference(alone, f"test.{MAIN}")
            said = []
            if cell.level < floor:
                said.append(f"{cell.level:.4f} is below popularity, {floor:.4f}")
            if found and found.mean <= 0:
                seeds = f"{found.seeds} seed{'s' * (found.seeds > 1)}"
                said.append(f"{found.mean:+.4f} against C-{label[2:]} ({seeds})")
            if said:
                lines.append(f"- {facet.title}, {label}: {'; '.join(said)}.")
    return "\n".join(lines or [f"- None, in {checked} cells."]) + "\n"
