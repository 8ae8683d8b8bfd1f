"""The full table stopped where it had cost what an adapter cost in all.

Test is read once, at the end of a run, so what a full table had before its end is known from its
learning curve alone.  Figures are of validation on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

from fedpeft.report.runs import Point
from fedpeft.report.statistics import Interval, Spread, spread_of
from fedpeft.report.sweeps.cells import CellResult, Facet
from fedpeft.report.verdicts import CURVE, METRICS, Score, difference

_TOTAL = "bytes.total_per_client_mean"


@dataclass(frozen=True, eq=False)
class Stopped:
    """A full table, read at its last evaluation at which it had not cost more than an adapter.

    Attributes
    ----------
    adapter, full
        The two cells.
    points
        Where the full table's curves are read, by seed.
    scores
        By metric, what the adapter ended with and what the full table had, over those seeds.
    differences
        By metric, the adapter's less the full table's, paired over the seeds.
    """

    adapter: CellResult
    full: CellResult
    points: Mapping[int, Point]
    scores: Mapping[str, tuple[Spread, Spread]]
    differences: Mapping[str, Interval]

    @property
    def total_bytes(self) -> float:
        """What the full table had cost, in bytes, mean over clients and seeds."""
        return mean(point.bytes_per_client for point in self.points.values())

    @property
    def rounds(self) -> float:
        """The rounds it had run, mean over the seeds."""
        return mean(point.round for point in self.points.values())


def stopped(facet: Facet) -> tuple[list[Stopped], list[str]]:
    """Return the stopped full tables of a facet's adapters, and what is missing, a sentence each.

    A full table stands beside an adapter if it has the same split, backbone, k and encoding.  Of
    several the one is taken that had the highest validation NDCG@10 by then.
    """
    found: list[Stopped] = []
    missing: dict[str, list[str]] = {}
    for cell in facet.cells:
        setup = _setup(cell)
        if setup is None or cell.total_bytes is None or _kind(cell) == "full":
            continue
        same = [
            full
            for full in facet.cells
            if _kind(full) == "full" and _setup(full) == setup and cell.paired_seeds(full)
        ]
        read = [each for full in same if (each := _read(cell, full)) is not None]
        if read:
            found.append(max(read, key=lambda each: each.scores[CURVE][1].mean))
            continue
        which = "full table of {} with k = {} in {}".format(*setup)
        why = (
            f"The {which} had cost more at its first evaluation already than"
            if same
            else f"There is no cell with a {which} to hold against"
        )
        missing.setdefault(why, []).append(facet.name(cell))
    return found, [f"{why} {'; '.join(names)}." for why, names in missing.items()]


def _kind(cell: CellResult) -> str | None:
    return next((row.get("setup.adapter") for row in cell.rows.values()), None)


def _setup(cell: CellResult) -> tuple[str, str, str] | None:
    """Return backbone, k and encoding; None where a cell has not run or results do not say it."""
    row = next(iter(cell.rows.values()), {})
    found = [row.get(f"setup.{name}") for name in ("backbone", "dim", "encoding")]
    return None if None in found else (f"{found[0]}", f"{found[1]:.0f}", f"{found[2]}")


def _read(cell: CellResult, full: CellResult) -> Stopped | None:
    """Return how a cell stands to a stopped full table; None without a point to read."""
    points: dict[int, Point] = {}
    for seed in cell.paired_seeds(full):
        paid = cell.rows[seed].get(_TOTAL)
        before = [p for p in full.curves[seed] if paid is not None and p.bytes_per_client <= paid]
        if before:
            points[seed] = before[-1]
    scores: dict[str, tuple[Spread, Spread]] = {}
    differences: dict[str, Interval] = {}
    for name in METRICS:
        last = cell.values(f"validation.{name}")
        had = {s: value for s, p in points.items() if (value := p.metric(name)) is not None}
        seeds = [seed for seed in had if seed in last]
        mine, its = ({seed: Score(side[seed]) for seed in seeds} for side in (last, had))
        gap = difference(mine, its)
        if gap is not None:
            differences[name] = gap
            scores[name] = (_spread(mine), _spread(its))
    return Stopped(cell, full, points, scores, differences) if CURVE in scores else None


def _spread(scores: Mapping[int, Score]) -> Spread:
    return spread_of([score.mean for score in scores.values()])
