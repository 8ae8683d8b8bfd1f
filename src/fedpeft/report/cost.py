"""The section of a report on what strategies cost: bytes, memory, operations, capacity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedpeft.records import ClientBytes
from fedpeft.records.costs import Costs, StrategyCost
from fedpeft.report.runs import Run, labels
from fedpeft.report.table import megabytes

COLUMNS = (
    "Strategy",
    "Values, up / down",
    "Bytes up, round",
    "Bytes down, round",
    "Bytes down, mean round",
    "Initial download, MB",
    "Run, MB / client",
    "Client keeps, MB",
    "Server keeps, MB",
    "FLOPs, item vector",
    "FLOPs, step",
    "Rank, at most",
    "Distinct corrections",
)


@dataclass(frozen=True)
class CostTable:
    """Rows for `COLUMNS`, and what to say below them.

    Attributes
    ----------
    rows
        Cells as text; the first is the label.
    own
        Index of the run's own row; None where all rows are runs.
    """

    rows: Sequence[Sequence[str]]
    own: int | None
    note: str


def cost_table(runs: Sequence[Run]) -> CostTable | None:
    """Return the table of a run and its alternatives, or of several runs; None without figures."""
    if len(runs) == 1:
        costs = runs[0].result.cost
        if costs is None:
            return None
        names = [entry.label for entry in costs.strategies]
        own = names.index(costs.strategy) if costs.strategy in names else None
        rows = [
            _cells(entry.label, entry, _measured(runs[0]) if number == own else None)
            for number, entry in enumerate(costs.strategies)
        ]
        shared = "their preset's" if runs[0].is_full else "this"
        told = f"; the alternatives have {shared} schedule and encodings"
        return CostTable(rows, own, _note(costs, told))
    rows, noted = [], None
    for name, run in zip(labels(runs), runs, strict=True):
        costs = run.result.cost
        for entry in costs.strategies if costs else ():
            if costs is not None and entry.label == costs.strategy:
                rows.append(_cells(name, entry, _measured(run)))
                noted = noted or costs
    return CostTable(rows, None, _note(noted)) if noted else None


def _measured(run: Run) -> ClientBytes | None:
    """Return what a run really sent, where that depends on the items that its clients touched."""
    training = run.result.config.get("training")
    rows = isinstance(training, dict) and training.get("upload") == "rows"
    return run.result.bytes if rows else None


def _cells(label: str, cost: StrategyCost, measured: ClientBytes | None) -> list[str]:
    """Return one row."""
    sent, can = cost.communication[0], cost.capacity
    vector, step = cost.computation.vector, cost.computation.step
    layout = "rows" if measured else sent.upload_layout
    up = measured.upload_per_client_round if measured else sent.upload_round
    total = measured.total_per_client_mean if measured else sent.total
    return [
        label,
        f"{sent.upload_encoding}{'' if layout == 'dense' else f', {layout}'} / "
        f"{sent.download_encoding}",
        f"{up:,.0f}",
        f"{sent.download_round:,.0f}",
        "-" if sent.mean_download_round is None else f"{sent.mean_download_round:,.0f}",
        megabytes(sent.base + sent.subspace),
        megabytes(total),
        megabytes(cost.storage.client.total),
        megabytes(cost.storage.server.total),
        f"{vector.matmul + vector.elementwise:,}",
        f"{step.matmul + step.elementwise:,}",
        "-" if can.rank is None else f"{can.rank:,}",
        "-" if can.expected_distinct is None else f"{can.expected_distinct:,.0f}",
    ]


def _note(costs: Costs, alternatives: str = "") -> str:
    """Return what a reader of the table must know."""
    scale = costs.scale
    rows = any(strategy.communication[0].upload_layout == "rows" for strategy in costs.strategies)
    told = " Uploads of rows are a run's own mean; those of alternatives are counted for its mean "
    told += "history, and rows of negatives come on top."
    return (
        f"Counted for {scale.items:,} items of {scale.dim} values and {scale.clients:,} "
        f"clients{alternatives}. A run's bytes are a mean over clients, both directions, warm-up, "
        "initial download and resync included; what comes down in a mean round has the merges in "
        "it, and counts broadcasts of zeros, which have no values. A graph expansion (FedPerGNN) "
        "comes on top. Storage is that of the adapt phase. Operations are the item embedding's "
        f"own, for a step that touches {min(scale.touched, scale.items):,} items, the mean "
        "history; ials moves all. "
        "Distinct corrections: how many of the items can be told apart by the rows they read, if "
        f"rows fall at random.{told if rows else ''} The command fedpeft cost measures all of this."
    )
