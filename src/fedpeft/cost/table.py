"""Costs as tables for a terminal of 80 columns: a column for each strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from fedpeft.cost.assemble import Cost
from fedpeft.cost.capacity import Capacity
from fedpeft.cost.communication import Communication
from fedpeft.cost.strategy import Scale

Row = tuple[str, Callable[[Cost], str]]
"""What a line is called, and what it says of a strategy."""


def as_rich(found: Sequence[Cost], scale: Scale) -> list[Table]:
    """Return one table each for bytes that travel, bytes kept, computation and capacity."""
    return [
        _table("Bytes of one client", found, _sent(found)),
        _table("Bytes kept between rounds", found, _kept()),
        _table(
            "Computation on the item embedding; a step touches "
            f"{min(scale.touched, scale.items):,} items",
            found,
            _computed(),
        ),
        _table(f"What corrections of {scale.items:,} items can express", found, _expressed()),
    ]


def notes(found: Sequence[Cost], scale: Scale) -> list[str]:
    """Return what a reader of the tables must know."""
    said = [
        f"n = {scale.items:,} items of k = {scale.dim} values; a run's bytes are means over clients"
        f" ({scale.clients:,}), both directions, warm-up, initial download and resync included; a "
        "graph expansion (FedPerGNN) comes on top",
        "storage is that of the adapt phase, in the warm-up a server holds the full table; a "
        "client's history, and payloads that a server keeps for clients that were away at a merge, "
        "come on top",
        "a payload of zeros, such as the first after a merge, has no values to send; what comes "
        "down in a mean round counts these broadcasts and merges, not the initial download",
    ]
    second_order = any(map(_is_second_order, found))
    if second_order:
        said.append(
            "a second-order server takes adapters that are linear in one tensor, so others are left"
            " out; item texts that its prior reads come on top of what it keeps"
        )
    if scale.touched < scale.items and not second_order:
        said.append(
            "a step of a pairwise loss touches a client's items; ials moves the rows of all items, "
            f"which --touched {scale.items} counts"
        )
    measured = [cost.measured for cost in found if cost.measured is not None]
    if any(entry.rows < scale.items for entry in measured):
        rows = measured[0].rows
        said.append(
            f"milliseconds and rank were measured on tables of {rows:,} items, not {scale.items:,};"
            " memory and disk were not"
        )
    if any(cost.derived_rows and cost.measured and cost.measured.choices for cost in found):
        said.append("codes were derived from a random base; real items are more alike")
    return said


def amount(number: float) -> str:
    """Return a number of bytes in a unit that leaves at most three digits before the point."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def count(number: float) -> str:
    """Return how many there are of something; from a million on four digits at most."""
    if number < 999_999.5:
        return f"{number:,.0f}"
    for unit in ("M", "G", "T"):
        number /= 1000 if unit != "M" else 1e6
        if number < 999.5:
            return f"{number:.4g} {unit}"
    return f"{1e12 * number:.3g}"


def _table(title: str, found: Sequence[Cost], rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for cost in found:
        # "P-Hash 512 x 2" on two lines
        table.add_column(escape(cost.label.replace(" ", "\n", 1)), justify="right", no_wrap=True)
    for name, tell in rows:
        table.add_row(name, *(tell(cost) for cost in found))
    return table


def _sent(found: Sequence[Cost]) -> list[Row]:
    encodings = [entry.encoding for entry in found[0].communication]
    full = next((cost for cost in found if cost.is_table), None)
    laid_out = any(cost.communication[0].upload_layout != "dense" for cost in found)
    second_order = any(map(_is_second_order, found))

    def first(tell: Callable[[Communication], str]) -> Callable[[Cost], str]:
        return lambda cost: tell(cost.communication[0])

    def share(encoding: str) -> Callable[[Cost], str]:
        if full is None:
            return lambda cost: "-"
        whole = full.sent_as(encoding).total
        return lambda cost: _percent(cost.communication[0].total, whole)

    return [
        ("values up", first(lambda sent: sent.upload_encoding)),
        ("values down", first(lambda sent: sent.download_encoding)),
        *([("layout up", first(lambda sent: sent.upload_layout))] if laid_out else []),
        ("up, round", first(lambda sent: amount(sent.upload_round))),
        *([("of it statistics", first(_statistics))] if second_order else []),
        ("down, round", first(lambda sent: amount(sent.download_round))),
        ("a merge", first(lambda sent: _or_none(sent.merge_round))),
        ("down, mean round", first(lambda sent: amount(sent.mean_download_round))),
        ("up, warm-up round", first(lambda sent: _or_none(sent.warmup_upload_round))),
        ("down, warm-up round", first(lambda sent: _or_none(sent.warmup_download_round))),
        ("rounds of a client", first(lambda sent: f"{sent.participations:,.1f}")),
        ("initial download", first(lambda sent: amount(sent.base + sent.subspace))),
        ("resync, run", first(lambda sent: amount(sent.resync))),
        *((f"run, {name}", _total(name)) for name in encodings),
        ("run, % of full", share(encodings[0])),
        *([("% of full as int8", share("int8"))] if "int8" in encodings else []),
    ]


def _is_second_order(cost: Cost) -> bool:
    return cost.communication[0].statistics_round > 0


def _statistics(sent: Communication) -> str:
    return amount(sent.statistics_round)


def _percent(part: float, whole: float) -> str:
    if not whole:
        return "-"
    share = 100 * part / whole
    return f"{share:.1f} %" if share < 999.95 else f"{count(share)} %"


def _total(encoding: str) -> Callable[[Cost], str]:
    return lambda cost: amount(cost.sent_as(encoding).total)


def _or_none(size: int | None) -> str:
    return "-" if size is None else amount(size)


def _kept() -> list[Row]:
    return [
        ("base", lambda cost: amount(cost.storage.client.base)),
        ("codes, seeds", lambda cost: amount(cost.storage.client.subspace)),
        ("adapter", lambda cost: amount(cost.storage.client.adapter)),
        ("shared", lambda cost: amount(cost.storage.client.shared)),
        ("local", lambda cost: amount(cost.storage.client.local)),
        ("client, all", lambda cost: amount(cost.storage.client.total)),
        ("server's optimiser", lambda cost: amount(cost.storage.server.optimizer)),
        ("server's residual", lambda cost: amount(cost.storage.server.feedback)),
        ("server, all", lambda cost: amount(cost.storage.server.total)),
        (
            "adapter on disk",
            lambda cost: _or_none(cost.measured.artifact if cost.measured else None),
        ),
    ]


def _computed() -> list[Row]:
    def took(name: str) -> Callable[[Cost], str]:
        return lambda cost: f"{getattr(cost.measured.timing, name):.4f}" if cost.measured else "-"

    return [
        ("FLOPs, vector", lambda cost: count(cost.computation.vector.flops)),
        ("integer, vector", lambda cost: count(cost.computation.vector.integer)),
        ("FLOPs, step", lambda cost: count(cost.computation.step.flops)),
        ("ms, vector", took("vector_ms")),
        ("ms, step's vectors", took("batch_ms")),
        ("ms, step", took("step_ms")),
    ]


def _expressed() -> list[Row]:
    def seen(name: str) -> Callable[[Cost], str]:
        def tell(cost: Cost) -> str:
            choices = cost.measured.choices if cost.measured else None
            return count(getattr(choices, name)) if choices else "-"

        return tell

    return [
        ("parameters", lambda cost: count(cost.capacity.parameters)),
        (
            "rank, at most",
            lambda cost: "-" if cost.capacity.rank is None else count(cost.capacity.rank),
        ),
        ("rank, measured", lambda cost: f"{cost.measured.rank:,}" if cost.measured else "-"),
        ("choices of rows", lambda cost: _reachable(cost.capacity)),
        (
            "distinct, expected",
            lambda cost: (
                "-"
                if cost.capacity.expected_distinct is None
                else count(cost.capacity.expected_distinct)
            ),
        ),
        ("distinct, measured", seen("distinct")),
        ("items alone", seen("alone")),
    ]


def _reachable(can: Capacity) -> str:
    """Return how many choices of rows there are; an adapter that is not known here has no bound."""
    if can.reachable is not None:
        return count(can.reachable)
    return "-" if can.expected_distinct is None else "one each"
