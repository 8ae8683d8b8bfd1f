"""How the committed results stand to what the project claims; for ``generate_results.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedpeft.report.sweeps import CellResult, Interval
from fedpeft.report.verdicts import FEWEST, METRICS, SIGNS, Verdict, overall, verdict
from quotes import by_strategy, fewer, sweep
from tables import in_lines, scored


def allowed(cell: CellResult) -> float:
    """Return the share of the full table's bytes that the claim allows."""
    return 0.15 if cell.labels["strategy"].startswith("P-RQ") else 0.125


@dataclass(frozen=True)
class Claim:
    """How a cell stands to the claim: accuracy not below the table's by more than noise, and bytes.

    Attributes
    ----------
    gaps
        Paired differences on test to the full table, by metric.
    share
        Bytes as a share of the full table's.
    accuracy
        What the differences say together.
    missed
        What it has lost on; bytes are known from one seed.
    """

    gaps: Mapping[str, Interval]
    share: float
    accuracy: Verdict
    missed: Sequence[str]

    @property
    def judged(self) -> bool:
        """Whether there are seeds enough to judge accuracy."""
        return self.accuracy != "no verdict"

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
        gaps = [f"{SIGNS[verdict(gap)]}{gap.mean:+.4f}" for gap in self.gaps.values()]
        seeds = min(gap.n for gap in self.gaps.values())
        few = f" ({seeds} seed{'s' * (seeds > 1)})" if seeds < FEWEST else ""
        return f"{' / '.join(gaps)} at {self.share:.1%}{few}: {self.word}"


def claim(cell: CellResult | None, full: CellResult | None) -> Claim | None:
    """Return how a cell stands to a full table; None where one of them is not run."""
    if cell is None or full is None or cell.total_bytes is None or full.total_bytes is None:
        return None
    found = {metric: cell.difference(full, metric) for metric in METRICS}
    gaps = {metric: gap for metric, gap in found.items() if gap is not None}
    if not gaps:
        return None
    share = cell.total_bytes / full.total_bytes
    accuracy = overall(gaps, share)
    failed = {"accuracy": accuracy == "lost", "bytes": share > allowed(cell)}
    return Claim(gaps, share, accuracy, [name for name, missed in failed.items() if missed])


def _each(name: str, strategies: Sequence[str], full: str) -> list[list[Claim | None]]:
    """Return the verdicts on some strategies, a list for every backbone and data set.

    Not every strategy is asked for everywhere.
    """
    return [
        [claim(cells.get(strategy), cells.get(full)) for strategy in strategies]
        for _, cells in by_strategy(name)
    ]


def verdicts(name: str, strategies: Sequence[str], full: str = "Full") -> str:
    """Return the verdicts on some strategies, for every backbone and data set that has any."""
    lines = [
        f"| | seeds | {full} | {' | '.join(strategies)} |",
        "|---" * (3 + len(strategies)) + "|",
    ]
    for (facet, cells), told in zip(by_strategy(name), _each(name, strategies, full), strict=True):
        if any(told):
            figures = f"{len(cells[full].rows)} | {in_lines(cells[full])}"
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


def claims(name: str, title: str, strategies: Sequence[str]) -> str:
    """Return a table of some cells of one facet: accuracy, bytes, and how they stand to the claim.

    A cell that is no adapter makes no claim.
    """
    lines = [
        f"| | seeds | {' | '.join(METRICS.values())} | bytes a round, both ways | MB a client "
        "| times fewer to 95 % | the claim |",
        "|---" * 9 + "|",
    ]
    cells = next(cells for facet, cells in by_strategy(name) if facet.title == title)
    for strategy in strategies:
        cell, full = cells[strategy], cells["Full"]
        scores = " | ".join(scored(cell, metric) for metric in METRICS)
        size = f"{(cell.total_bytes or 0) / 1e6:.2f} ({cell.share or 0:.1%})"
        told = claim(cell, full) if strategy.startswith("P-") else None
        lines.append(
            f"| {strategy} | {len(cell.rows)} | {scores} | {cell.round_bytes or 0:,.0f} | {size} "
            f"| {fewer(cell)} | {told.word if told else ''} |"
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
        popularity = facet.baselines()["popularity"]
        for label, cell in cells.items():
            if not label.startswith("P-"):
                continue
            checked += 1
            alone = cells.get(f"C-{label[2:]}")
            for metric, heading in METRICS.items():
                said, level = [], cell.metric(metric)
                baseline = popularity[f"test.{metric}"]
                if level is not None and level.mean < baseline:
                    said.append(f"{level.mean:.4f} is below popularity, {baseline:.4f}")
                found = alone.difference(cell, metric) if alone else None
                if found and found.mean >= 0:
                    seeds = f"{found.n} seed{'s' * (found.n > 1)}"
                    said.append(f"{-found.mean:+.4f} against C-{label[2:]} ({seeds})")
                if said:
                    lines.append(f"- {facet.title}, {label}, {heading}: {'; '.join(said)}.")
    return "\n".join(lines or [f"- None, in {checked} cells."]) + "\n"
