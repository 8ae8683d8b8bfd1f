"""Costs as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from fedpeft.cost.assemble import Cost
from fedpeft.cost.strategy import Scale


def as_rich(found: Sequence[Cost], scale: Scale) -> list[Table]:
    """Return one table each for bytes sent, bytes kept, computation and capacity."""
    return [_sent(found), _kept(found), _computed(found, scale), _expressed(found, scale)]


def notes(found: Sequence[Cost], scale: Scale) -> list[str]:
    """Return what a reader of the tables must know."""
    said = [
        f"n = {scale.items:,} items of k = {scale.dim} values; a run's bytes are means over clients"
        f" ({scale.clients:,}), both directions, warm-up, one-off and catch-up included",
        "storage is that of the adapt phase; a client's history, and payloads that a server keeps "
        "for clients that were away at a fold, come on top",
    ]
    measured = [cost.measured for cost in found if cost.measured is not None]
    if any(entry.rows < scale.items for entry in measured):
        rows = measured[0].rows
        said.append(
            f"milliseconds and rank were measured on tables of {rows:,} items, not {scale.items:,};"
            " memory and disk were not"
        )
    return said


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("Strategy")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _sent(found: Sequence[Cost]) -> Table:
    encodings = [entry.encoding for entry in found[0].communication]
    table = _table(
        "Bytes sent by one client",
        "Values, up / down",
        "Up, round",
        "Down, round",
        "Up, warm-up round",
        "Down, warm-up round",
        "One-off",
        "Catch-up, run",
        *(f"MB, run, {encoding}" for encoding in encodings),
        "% of full",
    )
    first = encodings[0]
    whole = next((c.sent_as(first).total for c in found if c.kind == "full"), None)
    for cost in found:
        sent = cost.sent_as(first)
        table.add_row(
            escape(cost.label),
            f"{sent.upload_encoding} / {sent.download_encoding}",
            f"{sent.upload_round:,}",
            f"{sent.download_round:,}",
            "-" if sent.warmup_upload_round is None else f"{sent.warmup_upload_round:,}",
            "-" if sent.warmup_download_round is None else f"{sent.warmup_download_round:,}",
            f"{sent.base + sent.subspace:,}",
            f"{sent.catch_up:,.0f}",
            *(f"{entry.total / 1e6:,.3f}" for entry in cost.communication),
            f"{100 * sent.total / whole:.1f}" if whole else "-",
        )
    return table


def _kept(found: Sequence[Cost]) -> Table:
    table = _table(
        "Bytes kept",
        "Base",
        "Codes, seeds",
        "Adapter",
        "Shared",
        "Private",
        "Client, all",
        "Server's optimiser",
        "Server, all",
        "Artifact on disk",
    )
    for cost in found:
        client, server = cost.storage.client, cost.storage.server
        artifact = cost.measured.artifact if cost.measured else None
        sizes = (
            client.base,
            client.subspace,
            client.adapter,
            client.shared,
            client.private,
            client.total,
            server.optimizer,
            server.total,
        )
        table.add_row(
            escape(cost.label),
            *(f"{size:,}" for size in sizes),
            "-" if artifact is None else f"{artifact:,}",
        )
    return table


def _computed(found: Sequence[Cost], scale: Scale) -> Table:
    touched = min(scale.touched, scale.items)
    table = _table(
        f"Computation on the item embedding; a step touches {touched:,} items",
        "FLOPs, vector",
        "Integer operations",
        "FLOPs, step",
        "ms, vector",
        "ms, vectors of a step",
        "ms, step",
    )
    for cost in found:
        vector, step = cost.computation.vector, cost.computation.step
        took = cost.measured.timing if cost.measured else None
        times = (took.vector_ms, took.batch_ms, took.step_ms) if took else ()
        table.add_row(
            escape(cost.label),
            f"{vector.flops:,}",
            f"{vector.integer:,}",
            f"{step.flops:,}",
            *(f"{ms:.4f}" for ms in times),
            *("-" for _ in range(3 - len(times))),
        )
    return table


def _expressed(found: Sequence[Cost], scale: Scale) -> Table:
    table = _table(
        f"What corrections of {scale.items:,} items can express",
        "Parameters",
        "Rank, at most",
        "Rank, measured",
        "Choices of rows",
        "Distinct, expected",
        "Distinct, measured",
        "Items alone",
    )
    for cost in found:
        can, measured = cost.capacity, cost.measured
        seen = measured.choices if measured else None
        table.add_row(
            escape(cost.label),
            f"{can.parameters:,}",
            "-" if can.rank is None else f"{can.rank:,}",
            f"{measured.rank:,}" if measured else "-",
            "one each" if can.reachable is None else _large(can.reachable),
            "-" if can.expected_distinct is None else f"{can.expected_distinct:,.1f}",
            f"{seen.distinct:,}" if seen else "-",
            f"{seen.alone:,}" if seen else "-",
        )
    return table


def _large(number: int) -> str:
    return f"{number:,}" if number < 10**12 else f"{float(number):.3g}"
