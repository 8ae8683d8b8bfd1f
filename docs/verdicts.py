"""How the committed results stand to what the project claims; for ``generate_results.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fedpeft.report.sweeps import CellResult, Interval
from fedpeft.report.sweeps.cells import MAIN
from quotes import by_strategy, fewer, sweep
from tables import difference

SEEDS = 3
"""Seeds that a verdict on accuracy should have; with two it is marked."""


def allowed(cell: CellResult) -> float:
    """Return the share of the full table's bytes that the claim allows."""
    return 0.15 if cell.labels["strategy"].startswith("P-RQ") else 0.125


@dataclass(frozen=True)
class Verdict:
    """How a cell stands to the claim: its bytes, and accuracy within one deviation.

    Attributes
    ----------
    gap
        Paired difference in NDCG@10 on test to the full table.
    share
        Bytes as a share of the full table's.
    judged
        Whether there are seeds enough to judge accuracy.
    missed
        What it has lost on; bytes are known from one seed.
    """

    gap: Interval
    share: float
    judged: bool
    missed: Sequence[str]

    @property
    def won(self) -> bool:
        """Whether it has both accuracy and bytes."""
        return self.judged and not self.missed

    @property
    def word(self) -> str:
        """What is said of it without figures."""
        if self.missed:
            return f"lost ({' and '.join(self.missed)})"
        return "**won**" if self.judged else "no verdict"

    def __str__(self) -> str:
        told = f"{self.gap.mean:+.4f} at {self.share:.1%}"
        if self.gap.n < SEEDS:
            told += f" ({self.gap.n} seed{'s' * (self.gap.n > 1)})"
        return f"{told}: {self.word}"


def verdict(cell: CellResult | None, full: CellResult | None) -> Verdict | None:
    """Return the verdict on a cell against a full table; None where one of them is not run."""
    if cell is None or full is None:
        return None
    gap = cell.difference(full, f"test.{MAIN}")
    standard = full.metric(MAIN)
    if gap is None or standard is None or cell.total_bytes is None or full.total_bytes is None:
        return None
    share = cell.total_bytes / full.total_bytes
    judged = standard.std is not None and gap.low is not None
    failed = {
        "accuracy": judged and gap.mean < -(standard.std or 0.0),
        "bytes": share > allowed(cell),
    }
    return Verdict(gap, share, judged, [name for name, missed in failed.items() if missed])


def _each(name: str, strategies: Sequence[str], full: str) -> list[list[Verdict | None]]:
    """Return the verdicts on some strategies, a list for every backbone and data set.

    Not every strategy is asked for everywhere.
    """
    return [
        [verdict(cells.get(strategy), cells.get(full)) for strategy in strategies]
        for _, cells in by_strategy(name)
    ]


def verdicts(name: str, strategies: Sequence[str], full: str = "Full") -> str:
    """Return the verdicts on some strategies, for every backbone and data set that has any."""
    lines = [
        f"| | seeds | {full}: NDCG@10 | {' | '.join(strategies)} |",
        "|---" * (3 + len(strategies)) + "|",
    ]
    for (facet, cells), told in zip(by_strategy(name), _each(name, strategies, full), strict=True):
        if any(told):
            figures = f"{len(cells[full].rows)} | {cells[full].metric(MAIN)}"
            shown = " | ".join(str(each or "-") for each in told)
            lines.append(f"| {facet.title} | {figures} | {shown} |")
    return "\n".join(lines) + "\n"


def won(name: str, strategies: Sequence[str], full: str = "Full") -> str:
    """Return how many cells at least one of some strategies won, of those with a verdict."""
    told = [[each for each in found if each] for found in _each(name, strategies, full)]
    judged = [found for found in told if any(each.judged or each.missed for each in found)]
    return f"{sum(any(each.won for each in found) for found in judged)} of {len(judged)}"


def swept(name: str, strategies: Sequence[str]) -> str:
    """Return the titles of the cells that each of some strategies won."""
    found = [
        facet.title
        for (facet, _), told in zip(by_strategy(name), _each(name, strategies, "Full"), strict=True)
        if all(each is not None and each.won for each in told)
    ]
    return "; ".join(found) or "none"


def tally(name: str, strategies: Sequence[str], full: str = "Full") -> str:
    """Return how often some strategies won or lost, and what for."""
    told = [each for found in _each(name, strategies, full) for each in found]
    found = Counter(each.word if each else "" for each in told)
    said = {"won": "**won**"}
    said |= {
        f"lost on {what}": f"lost ({what})" for what in ("accuracy", "bytes", "accuracy and bytes")
    }
    said |= {"without a verdict": "no verdict", "not run": ""}
    return ", ".join(f"{found[word]} {what}" for what, word in said.items() if found[word])


def doubtful(name: str, strategies: Sequence[str]) -> tuple[int, int]:
    """Return how many losses on accuracy are undecided, and how many wins reliably lower."""
    told = [each for found in _each(name, strategies, "Full") for each in found if each]
    return (
        sum("accuracy" in each.missed and each.gap.verdict == "undecided" for each in told),
        sum(each.won and each.gap.verdict == "below" for each in told),
    )


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
        against = difference(gap)
        size = f"{(cell.total_bytes or 0) / 1e6:.2f} ({cell.share or 0:.1%})"
        told = verdict(cell, full) if strategy.startswith("P-") else None
        lines.append(
            f"| {strategy} | {seeds} | {score} | {against} | {size} | {fewer(cell)} "
            f"| {told.word if told else ''} |"
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
        baseline = facet.baselines()["popularity"][f"test.{MAIN}"]
        for label, cell in cells.items():
            if not label.startswith("P-"):
                continue
            checked += 1
            alone = cells.get(f"C-{label[2:]}")
            found = alone and cell.difference(alone, f"test.{MAIN}")
            said = []
            if cell.level < baseline:
                said.append(f"{cell.level:.4f} is below popularity, {baseline:.4f}")
            if found and found.mean <= 0:
                seeds = f"{found.n} seed{'s' * (found.n > 1)}"
                said.append(f"{found.mean:+.4f} against C-{label[2:]} ({seeds})")
            if said:
                lines.append(f"- {facet.title}, {label}: {'; '.join(said)}.")
    return "\n".join(lines or [f"- None, in {checked} cells."]) + "\n"
