"""Cells of the committed sweeps, for the pages that quote them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fedpeft.files import read_json
from fedpeft.report.sweeps import CellResult, Facet, Interval, facets, read_records
from fedpeft.report.verdicts import CURVE, verdict

RESULTS = Path(__file__).resolve().parents[1] / "experiments" / "results"
NUMBERS = ("no", "one", "two", "three", "four", "five")


def sweep(name: str) -> list[Facet]:
    """Return those facets of a committed sweep in which something has run, data set by data set."""
    return [facet for facet in _facets(name) if any(cell.rows for cell in facet.cells)]


def by_strategy(name: str) -> Iterator[tuple[Facet, dict[str, CellResult]]]:
    """Yield every facet of a grid with its cells by strategy, run or not."""
    for facet in _facets(name):
        yield facet, {cell.labels["strategy"]: cell for cell in facet.cells}


@cache
def _facets(name: str) -> list[Facet]:
    return facets(read_records(RESULTS / f"{name}.jsonl"))


@dataclass(frozen=True)
class Quote:
    """What a sentence may say of a cell, as text."""

    cell: CellResult
    others: dict[str, CellResult]

    @property
    def seeds(self) -> str:
        """Return how many seeds it has."""
        count = len(self.cell.rows)
        return f"{NUMBERS[count]} seed{'s' * (count != 1)}"

    @property
    def ndcg(self) -> str:
        """Return sampled NDCG@10 on test with its deviation."""
        return str(self.cell.metric(CURVE))

    @property
    def validation(self) -> str:
        """Return the last sampled NDCG@10 on validation."""
        found = self.cell.metric(CURVE, "validation")
        assert found is not None
        return f"{found.mean:.4f}"

    def after(self, rounds: int) -> str:
        """Return sampled NDCG@10 on validation after some rounds, mean over the seeds."""
        curves = self.cell.curves.values()
        found = [point.ndcg for curve in curves for point in curve if point.round == rounds]
        assert len(found) == len(self.cell.curves), f"no evaluation after round {rounds}"
        return f"{sum(found) / len(found):.4f}"

    @property
    def share(self) -> str:
        """Return its bytes as a share of the reference's."""
        return self.share_of("Full")

    def share_of(self, full: str) -> str:
        """Return its bytes as a share of another cell's."""
        mine, whole = self.cell.total_bytes, self.others[full].total_bytes
        assert mine is not None
        assert whole
        return f"{mine / whole:.1%}"

    @property
    def fewer(self) -> str:
        """Return how many times fewer bytes it takes to 95 % of the reference than that takes."""
        return fewer(self.cell)

    def gap(self, other: str) -> str:
        """Return the mean paired difference in sampled NDCG@10 on test to another cell."""
        return f"{self._difference(other).mean:+.4f}"

    def against(self, other: str) -> str:
        """Return the paired difference in sampled NDCG@10 to another cell, with its interval."""
        found = self._difference(other)
        if found.low is None or found.high is None:
            return f"{found.mean:+.4f}, one seed"
        return f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"

    def _difference(self, other: str) -> Interval:
        found = self.cell.difference(self.others[other], CURVE)
        assert found is not None
        return found


def quote(name: str, title: str, strategy: str) -> Quote:
    """Return what may be said of one cell of a committed sweep."""
    cells = next(cells for facet, cells in by_strategy(name) if facet.title == title)
    return Quote(cells[strategy], cells)


def compared(name: str, strategy: str, other: str, metric: str = CURVE) -> str:
    """Return in how many cells a strategy has won against another on test, lost, and so on."""
    gaps = [
        cells[strategy].difference(cells[other], metric)
        for _, cells in by_strategy(name)
        if cells[strategy].rows and cells[other].rows
    ]
    found = Counter(verdict(gap) for gap in gaps if gap is not None)
    return ", ".join(f"{word} in {count}" for word, count in found.most_common())


def over_users(source: str, backbone: str, strategy: str) -> str:
    """Return a cell's difference to the full table with its interval over users, and its seeds."""
    labels = {"data.source": source, "backbone": backbone, "strategy": strategy}
    [found] = [facts for facts in _users() if facts["labels"] == labels]
    gap, seeds = found["differences"][CURVE], len(found["seeds"])
    return (
        f"{gap['mean']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f}; "
        f"{NUMBERS[seeds]} seed{'s' * (seeds != 1)})"
    )


@cache
def _users() -> Any:
    return read_json(RESULTS / "users.json")


def fewer(cell: CellResult) -> str:
    """Return how many times fewer bytes a cell takes to 95 % of its reference; "-" if never."""
    full = cell.reference.target_bytes if cell.reference else None
    return f"{full / cell.target_bytes:.1f}" if full and cell.target_bytes else "-"
