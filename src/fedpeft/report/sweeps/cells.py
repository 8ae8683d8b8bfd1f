"""Rows of single seeds gathered into cells, and cells into facets that may be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from fedpeft.report.compare import TARGET_SHARE, bytes_to_target
from fedpeft.report.runs import Point
from fedpeft.report.statistics import Interval, Spread, spread_of
from fedpeft.report.sweeps.read import Sweep
from fedpeft.report.verdicts import CURVE, MAIN, METRICS, Score, Verdict, difference, overall


@dataclass(eq=False)
class CellResult:
    """One cell with all its seeds.

    Attributes
    ----------
    rows
        The finished ones, by seed.
    asked
        Number of seeds that were asked for.
    differences
        By metric, against the reference cell; none for the reference itself.
    reference
        The cell that it is compared with, perhaps itself.
    best
        Whether it has the highest mean of its facet.
    to_best
        The difference in the main metric to the cell that has; None for that one.
    target_bytes
        Bytes per client until validation reached 95 % of the reference's final value, mean over
        seeds; None if a seed did not.
    reached_target
        How many seeds did.
    """

    labels: Mapping[str, str]
    rows: Mapping[int, Mapping[str, Any]]
    asked: int
    reasons: Sequence[str]
    part: str
    curves: Mapping[int, Sequence[Point]]
    differences: Mapping[str, Interval] = field(default_factory=dict)
    reference: CellResult | None = None
    best: bool = False
    to_best: Interval | None = None
    target_bytes: float | None = None
    reached_target: int = 0

    def values(self, column: str) -> dict[int, float]:
        """Return a column's value per seed, where there is one."""
        return {s: row[column] for s, row in self.rows.items() if row.get(column) is not None}

    def metric(self, name: str, part: str | None = None) -> Spread | None:
        """Return a metric over the seeds, such as ``sampled.ndcg@10``."""
        values = self.values(f"{part or self.part}.{name}")
        return spread_of(list(values.values())) if values else None

    def mean(self, column: str) -> float | None:
        """Return a column's mean over the seeds."""
        values = self.values(column)
        return mean(values.values()) if values else None

    @property
    def splits(self) -> set[str]:
        """Return the splits that its runs were evaluated on; more than one if the data changed."""
        return {row["split"] for row in self.rows.values()}

    def difference(self, other: CellResult, metric: str) -> Interval | None:
        """Return how a metric differs from another cell's, paired on the same split."""
        column = f"{self.part}.{metric}"
        seeds = self.paired_seeds(other)
        mine, its = (
            {
                seed: Score(cell.rows[seed][column], cell.rows[seed].get("gains", {}).get(column))
                for seed in seeds
                if cell.rows[seed].get(column) is not None
            }
            for cell in (self, other)
        )
        return difference(mine, its)

    def paired_seeds(self, other: CellResult) -> list[int]:
        """Return the seeds that both have run on the same split."""
        return [
            seed
            for seed, row in self.rows.items()
            if seed in other.rows and row["split"] == other.rows[seed]["split"]
        ]

    @property
    def verdict(self) -> Verdict | None:
        """Return how it stands to its reference in all; None where it is not compared."""
        return overall(self.differences, self.share) if self.differences else None

    @property
    def level(self) -> float:
        """Return the mean of the main metric; 0 where nothing is done."""
        score = self.metric(MAIN)
        return score.mean if score is not None else 0.0

    @property
    def round_bytes(self) -> float | None:
        """Upload plus download of one client in one adapt round."""
        ways = [self.mean(f"bytes.{way}_per_client_round") for way in ("upload", "download")]
        return None if None in ways else sum(way for way in ways if way is not None)

    @property
    def total_bytes(self) -> float | None:
        """Everything that crossed the network, mean over clients and seeds."""
        return self.mean("bytes.total_per_client_mean")

    @property
    def share(self) -> float | None:
        """Total bytes as a share of the reference's."""
        if self.reference is None or not self.reference.total_bytes or self.total_bytes is None:
            return None
        return self.total_bytes / self.reference.total_bytes


@dataclass(frozen=True, eq=False)
class Facet:
    """Cells that stand beside one another: they differ in what is compared and in numbers only."""

    title: str
    axes: Sequence[str]
    """Axes in which the cells differ."""
    cells: Sequence[CellResult]

    @property
    def reference(self) -> CellResult | None:
        """The cell that others are compared with, the first one if there are several."""
        return next((c.reference for c in self.cells if c.reference and c.reference.rows), None)

    def name(self, cell: CellResult) -> str:
        """Return a cell's labels, as far as they differ within the facet."""
        return shown(cell, self.axes or tuple(cell.labels)) or "run"

    @property
    def left_out(self) -> str:
        """What runs tell of baselines that they lack."""
        rows = (row for cell in self.cells for row in cell.rows.values())
        return next((said for row in rows if (said := row.get("baselines_left_out"))), "")

    def baselines(self) -> dict[str, Mapping[str, float]]:
        """Return the baselines of the reference, or of the first cell that has some."""
        reference = self.reference
        for cell in [*([reference] if reference else []), *self.cells]:
            for row in cell.rows.values():
                found: dict[str, dict[str, float]] = {}
                for column, value in row.items():
                    if column.startswith("baseline.") and value is not None:
                        _, name, metric = column.split(".", 2)
                        found.setdefault(name, {})[metric] = value
                if found:
                    return dict(found)
        return {}


def facets(sweep: Sweep) -> list[Facet]:
    """Gather a sweep's rows; within each facet, find the best cell and all paired differences.

    Facets are the combinations of the axes that are neither compared nor numeric.  Without
    anything to compare, cells stand together if they were evaluated on the same split.
    """
    cells = _cells(sweep)
    axes = sweep.facts.axes
    compare = sweep.facts.compare
    grouped: dict[tuple[str, ...], list[CellResult]] = {}
    splitting = [
        axis for axis in axes if compare and axis != compare.axis and not numbers(axes[axis])
    ]
    for cell in cells:
        key = tuple(cell.labels[axis] for axis in splitting)
        if compare is None:
            splits = sorted({row["split"][:12] for row in cell.rows.values()})
            key = tuple(splits) or ("not run yet",)
        grouped.setdefault(key, []).append(cell)
    found = []
    for key, members in grouped.items():
        if compare is not None:
            _compare(members, cells, compare.axis, compare.reference)
        _rank(members)
        if sweep.facts.searched:
            members.sort(key=lambda cell: -cell.level)
        inside = [
            axis
            for axis in axes
            if axis not in splitting and len({cell.labels[axis] for cell in members}) > 1
        ]
        title = ", ".join(key) if compare is not None or len(grouped) == 1 else f"split {key[0]}"
        found.append(Facet(title if compare or len(grouped) > 1 else "", inside, members))
    return found


def shown(cell: CellResult, axes: Sequence[str]) -> str:
    """Return a cell's labels of some axes; numbers, true and false say nothing without theirs."""
    return ", ".join(
        f"{axis.rpartition('.')[2]} {label}"
        if label in ("true", "false") or numbers([label, label])
        else label
        for axis, label in cell.labels.items()
        if axis in axes
    )


def numbers(labels: Sequence[str]) -> list[float]:
    """Return an axis's labels as numbers, if two or more are; one word may stand among them."""
    found = []
    for label in labels:
        try:
            found.append(float(label))
        except ValueError:
            continue
    return found if len(found) > 1 and len(labels) - len(found) <= 1 else []


def _cells(sweep: Sweep) -> list[CellResult]:
    """Return the cells in the order of the grid."""
    grouped: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in sweep.rows:
        grouped.setdefault(tuple(row[axis] for axis in sweep.facts.axes), []).append(row)
    found = []
    for labels, rows in grouped.items():
        done = {row["seed"]: row for row in rows if row["status"] == "done"}
        found.append(
            CellResult(
                labels=dict(zip(sweep.facts.axes, labels, strict=True)),
                rows=done,
                asked=len(rows),
                reasons=sorted({row["reason"] for row in rows if row.get("reason")}),
                part=sweep.part,
                curves={seed: row["curve"] for seed, row in done.items()},
            )
        )
    return found


def _compare(
    members: Sequence[CellResult], cells: Sequence[CellResult], axis: str, reference: str
) -> None:
    """Take every member's differences to its reference.

    That is the cell with the same labels but for `axis`; or, where the facet, or else the whole
    sweep, has one cell only with the reference's label, that one.  A cell that was evaluated on
    another split has none.
    """
    near, everywhere = (
        [cell for cell in group if cell.labels[axis] == reference] for group in (members, cells)
    )
    lone = next((group[0] for group in (near, everywhere) if len(group) == 1), None)
    for cell in members:
        wanted = {**cell.labels, axis: reference}
        standard = next((cell for cell in near if cell.labels == wanted), lone)
        if standard is None or (cell.rows and standard.rows and not cell.splits & standard.splits):
            continue
        cell.reference = standard
        last = standard.metric(CURVE, "validation")
        if last is not None:
            _reach(cell, TARGET_SHARE * last.mean)
        if cell is standard:
            continue
        found = {name: cell.difference(standard, name) for name in METRICS}
        cell.differences = {name: gap for name, gap in found.items() if gap is not None}


def _reach(cell: CellResult, target: float) -> None:
    """Set how many of a cell's seeds reached the target, and after how many bytes if all did."""
    found = [bytes_to_target(curve, target) for curve in cell.curves.values()]
    reached = [count for count in found if count is not None]
    cell.reached_target = len(reached)
    cell.target_bytes = mean(reached) if reached and len(reached) == len(found) else None


def _rank(members: Sequence[CellResult]) -> None:
    """Mark the best cell, and take the paired differences of the others to it.

    None is the best of cells that were evaluated on different splits.
    """
    scored = [(score.mean, cell) for cell in members if (score := cell.metric(MAIN)) is not None]
    if len(scored) < 2 or len({split for _, cell in scored for split in cell.splits}) > 1:
        return
    top = max(scored, key=lambda pair: pair[0])[1]
    top.best = True
    for _, cell in scored:
        if cell is not top:
            cell.to_best = cell.difference(top, MAIN)
