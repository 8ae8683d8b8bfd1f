"""Writes docs/costs.md: what each strategy costs, and which one to use.

    python docs/generate_costs.py

Bytes, operations and expectations are counted anew; milliseconds and collisions come from
``benchmarks/results/cost.json``, accuracy from ``experiments/results``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from fedpeft.cost import AS_SET, Cost, Scale, costs
from fedpeft.cost.communication import Communication
from fedpeft.cost.formulas import FORMULAS
from fedpeft.cost.table import amount
from fedpeft.experiment.costs import scale_of, strategies
from fedpeft.protocol.messages import Broadcast, Snapshot, Step, Upload
from fedpeft.report.verdicts import METRICS
from options import parser
from verdicts import claim, sweep

ROOT = Path(__file__).resolve().parents[1]
PAGE = "costs.md"
TEMPLATE = ROOT / "docs" / "costs.md.j2"
MEASURED = ROOT / "benchmarks" / "results" / "cost.json"
HEADS = {
    "upload": Upload.size(0),
    "broadcast": Broadcast.size(0),
    "base": Snapshot.size(0),
    "merge": Step.size(0),
}
ITEMS = tuple(10**power for power in range(3, 8))
ADAPTERS = ("P-LoRA", "P-Hash", "P-RQ")
LABELS = ("Full", "P-LoRA r=4", "P-Hash 512 x 2", "P-Hash-SENet 512 x 2", "P-RQ 256 x 4")


def count(scale: Scale, settings: dict[str, Any] | None = None) -> dict[str, Cost]:
    """Return the costs at a size, by label."""
    return {cost.label: cost for cost in costs(strategies(settings or {}), scale, measured=False)}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def formulas() -> str:
    """Return the table of formulas."""
    head = [
        "",
        "values sent each way",
        "initial download, bytes",
        "FLOPs of a vector",
        "rank, at most",
    ]
    rows = []
    for name, told in FORMULAS.items():
        once = " + ".join(part for part in (told.base, told.codes) if part != "0") or "0"
        work = " + ".join(part for part in (told.matmul, told.elementwise) if part != "0") or "0"
        rows.append([name, told.payload, once, work, told.rank])
    return table(head, [[cell.replace(" * ", " ") for cell in row] for row in rows])


def size(told: int | None) -> str:
    """Return a number of bytes as text."""
    return "-" if told is None else f"{told:,}"


def sent(found: dict[str, Cost]) -> str:
    """Return the bytes at MovieLens 1M's size."""
    head = ["", "values, up / down", "up, round", "down, round", "up, warm-up round",
            "down, warm-up round", "initial download", "resync, run", "MB, run, as set", "float32",
            "float16", "int8", "int4", "% of full"]  # fmt: skip
    whole = found["Full"].communication[0].total
    rows = []
    for label, cost in found.items():
        first = cost.communication[0]
        rows.append(
            [
                label,
                f"{first.upload_encoding} / {first.download_encoding}",
                *map(size, (first.upload_round, first.download_round)),
                *map(size, (first.warmup_upload_round, first.warmup_download_round)),
                f"{first.base + first.subspace:,}",
                f"{first.resync:,.0f}",
                *(f"{entry.total / 1e6:.2f}" for entry in cost.communication),
                f"{100 * first.total / whole:.1f}",
            ]
        )
    return table(head, rows)


def growth(by_items: dict[int, dict[str, Cost]]) -> str:
    """Return megabytes of a run against n, and their parts."""
    rows = [
        [label, *(f"{megabytes(f[label]):,.1f}" for f in by_items.values())] for label in LABELS
    ]
    rows.insert(
        1, ["Full, int8", *(f"{megabytes(f['Full'], 'int8'):,.1f}" for f in by_items.values())]
    )
    return table(["n", *(f"{n:,}" for n in by_items)], rows)


SCHEDULES = (
    ("everybody, 20 rounds", 20, 1.0, 1),
    ("a tenth, 20 rounds", 20, 0.1, 1),
    ("a tenth, 200 rounds", 200, 0.1, 1),
    ("a tenth, 200 rounds, merged every 10", 200, 0.1, 10),
)
"""Schedules of the preset with few rounds: a name, rounds, share of the clients, rounds between
merges."""


def few(
    items: int, rounds: int = 20, share: float = 1.0, merge: int = 1, **tables: Any
) -> dict[str, Cost]:
    """Return the costs of the preset with few rounds at a size, by label."""
    training = {"rounds": rounds, "cohort": share, "refresh_every": merge}
    return count(scale_of({}, items=items), {"preset": "newton", "training": training, **tables})


def narrow(cost: Cost) -> Communication:
    """Return the bytes in 8 bits, which adapters have as set."""
    return cost.sent_as("int8" if cost.is_table else AS_SET)


@cache
def bare_at(items: int) -> dict[str, Cost]:
    """Return the costs without a base at a size, by label."""
    return count(scale_of({}, items=items), {"adapter": {"kind": "hash", "mode": "compress"}})


def few_rounds() -> str:
    """Return the bytes of a round and of a run with few rounds, at MovieLens 1M's size."""
    rows = []
    for schedule, *settings in SCHEDULES:
        for label, cost in few(3706, *settings).items():
            sent = narrow(cost)
            rows.append(
                [
                    schedule,
                    label,
                    f"{sent.participations:.0f}",
                    size(sent.upload_round),
                    size(sent.statistics_round),
                    size(sent.merge_round),
                    f"{sent.mean_download_round:,.0f}",
                    size(sent.base + sent.subspace),
                    f"{sent.total / 1e6:.2f}",
                ]
            )
    head = ["schedule", "int8", "rounds of a client", "up, round", "of it statistics", "a merge",
            "down, mean round", "initial download", "MB, run"]  # fmt: skip
    return table(head, rows)


def few_sizes() -> str:
    """Return the bytes of a round, up and down, and of a run with few rounds against n."""
    rows = []
    for n in (1000, 3706, *ITEMS[1:]):
        for label, cost in few(n).items():
            sent = narrow(cost)
            rows.append(
                [
                    f"{n:,}",
                    label,
                    size(sent.upload_round),
                    f"{sent.mean_download_round:,.0f}",
                    size(sent.base + sent.subspace),
                    f"{sent.total / 1e6:,.2f}",
                ]
            )
    head = ["n", "int8", "up, round", "down, mean round", "initial download", "MB, run"]
    return table(head, rows)


def made_of(by_items: dict[int, dict[str, Cost]]) -> str:
    """Return what the bytes of a run are made of."""
    parts = []
    for n in (1000, 100_000, 10_000_000):
        for label in LABELS[1:3] + LABELS[4:]:
            c = by_items[n][label].communication[0]
            adapt = c.upload + c.download - c.warmup
            shares = (adapt, c.warmup, c.initial_download, c.resync)
            parts.append([f"{n:,}", label, *(f"{100 * part / c.total:.1f} %" for part in shares)])
    return table(["n", "", "payloads", "warm-up", "initial download", "resync"], parts)


def kept(by_items: dict[int, dict[str, Cost]]) -> str:
    """Return bytes in memory at two sizes."""
    rows = []
    for n in (3706, 1_000_000):
        for label in LABELS:
            storage = by_items[n][label].storage
            client, server = storage.client, storage.server
            sizes = (client.base, client.subspace, client.adapter, client.local, client.total,
                     server.optimizer, server.feedback, server.total)  # fmt: skip
            rows.append([f"{n:,}", label, *(f"{size:,}" for size in sizes)])
    return table(
        ["n", "", "base", "codes, seeds", "adapter", "local", "client, all",
         "server's optimiser", "server's residual", "server, all"], rows,
    )  # fmt: skip


def computed(found: dict[str, Cost], measured: dict[str, Any]) -> str:
    """Return operations, and milliseconds as they were measured."""
    rows = []
    for label, cost in found.items():
        vector, step = cost.computation.vector, cost.computation.step
        times = [entry(point, label)["measured"]["timing"] for point in measured["points"]]
        rows.append(
            [
                label,
                f"{vector.matmul:,}",
                f"{vector.elementwise:,}",
                f"{vector.integer:,}",
                f"{step.flops:,}",
                spread(time["vector_ms"] for time in times),
                spread(time["batch_ms"] for time in times),
                spread(time["step_ms"] for time in times),
            ]
        )
    head = ["", "matrix products", "other FLOPs", "integer", "FLOPs of a step", "us, a vector",
            "us, 166 vectors", "us, a step"]  # fmt: skip
    return table(head, rows)


def spread(values: Iterable[float]) -> str:
    """Return the least and the most of milliseconds, in microseconds."""
    found = sorted(1000 * value for value in values)
    least, most = f"{found[0]:.0f}", f"{found[-1]:.0f}"
    return least if least == most else f"{least} to {most}"


def entry(point: dict[str, Any], label: str) -> dict[str, Any]:
    """Return one strategy's costs of a benchmark point."""
    found: dict[str, Any] = next(c for c in point["strategies"] if c["label"] == label)
    return found


def expressed(by_items: dict[int, dict[str, Cost]], measured: dict[str, Any]) -> str:
    """Return distinct choices of rows against n."""
    points = {point["scale"]["items"]: point for point in measured["points"]}
    rows = []
    for label in LABELS[2:]:
        cells = []
        for n in ITEMS:
            told = f"{by_items[n][label].capacity.expected_distinct:,.0f}"
            if "Hash" in label:
                told += f" ({entry(points[n], label)['measured']['choices']['distinct']:,})"
            cells.append(told)
        rows.append([label, f"{by_items[ITEMS[0]][label].capacity.reachable:,}", *cells])
    head = ["", "choices there are", *(f"n = {n:,}" for n in ITEMS)]
    return table(head, rows)


def accuracy() -> dict[str, Callable[..., Any]]:
    """Return what the committed runs on MovieLens 1M reached and paid, as functions."""
    cells = {
        (cell.labels["variant"], cell.labels["strategy"]): cell
        for facet in sweep("headline")
        for cell in facet.cells
        if cell.rows
    }

    def reached(name: str, variant: str = "ours") -> str:
        found = cells[variant, name]
        seeds = len(found.rows)
        scores = " / ".join(str(found.metric(name)) for name in METRICS)
        return f"{scores} ({seeds} seed{'s' * (seeds > 1)})"

    def against(name: str, variant: str = "ours") -> str:
        return str(claim(cells[variant, name], cells[variant, "Full"]))

    return {
        "reached": reached,
        "against": against,
        "paid": lambda name: f"{(cells['ours', name].total_bytes or 0) / 1e6:.1f} MB",
        "by_backbone": by_backbone,
    }


def by_backbone() -> str:
    """Return what the claim's verdicts are, default settings: backbones down, adapters across."""
    found: dict[str, list[list[str]]] = {}
    for facet in sweep("grid-fedpeft"):
        cells = {cell.labels["strategy"]: cell for cell in facet.cells}
        told = [claim(cells[name], cells["Full"]) or "not run" for name in ADAPTERS]
        data, _, backbone = facet.title.partition(", ")
        found.setdefault(backbone, []).append([f"{data} {said}" for said in told])
    rows = [
        [backbone, *("; ".join(said) for said in zip(*by_data, strict=True))]
        for backbone, by_data in found.items()
    ]
    return table(["", *ADAPTERS], rows)


def megabytes(cost: Cost, encoding: str = AS_SET) -> float:
    """Return megabytes of a run."""
    return cost.sent_as(encoding).total / 1e6


def render() -> str:
    """Return the page."""
    measured = json.loads(MEASURED.read_text())
    points, machine = measured["points"], measured["machine"]
    by_items = {n: count(scale_of({}, items=n)) for n in (3706, *ITEMS)}
    small, swept = by_items[3706], {n: by_items[n] for n in ITEMS}
    whole = megabytes(small["Full"])
    cold = {
        (n, label): count(scale_of({}, items=n), {"training": {"warmup_rounds": 0}})[label]
        for n, label in ((3706, LABELS[1]), (ITEMS[-1], LABELS[2]))
    }
    as_codes = {"training": {"warmup_rounds": 0}, "items": {"base_codes": {}}}
    coded = count(scale_of({}, items=ITEMS[-1]), as_codes)
    bare = bare_at(ITEMS[-1])
    loads = sorted(point["load"] for point in points)
    million = next(point for point in points if point["scale"]["items"] == 1_000_000)
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    return template.render(
        formulas=formulas(),
        heads=HEADS,
        sent=sent(small),
        totals=growth(swept),
        parts=made_of(swept),
        kept=kept(by_items),
        computed=computed(small, measured),
        expressed=expressed(swept, measured),
        machine=machine,
        loads=f"{loads[0]:.1f} to {loads[-1]:.1f}",
        cut=f"{entry(points[-1], LABELS[0])['measured']['rows']:,}",
        ranks=", ".join(f"{name} {entry(million, name)['measured']['rank']}" for name in LABELS),
        narrow=f"{100 * megabytes(small['Full'], 'int8') / whole:.0f} %",
        halved=f"{100 * megabytes(small['Full'], 'float16') / whole:.0f} %",
        adapted=f"{100 * megabytes(small['P-LoRA r=4']) / whole:.0f} %",
        cold_small=f"{megabytes(cold[3706, LABELS[1]]):.1f} MB",
        cold_large=f"{megabytes(cold[ITEMS[-1], LABELS[2]]):,.0f} MB",
        coded_large=f"{megabytes(coded[LABELS[2]]):,.0f} MB",
        touched=f"{166 * (4 * 32 + 4):,} bytes",
        all_items=", ".join(
            f"{label} {cost.computation.step.flops / 1e6:.2f} million"
            for label, cost in count(scale_of({}, items=3706, touched=3706)).items()
        ),
        few_rounds=few_rounds(),
        few_sizes=few_sizes(),
        few=lambda label, rounds=20, share=1.0, merge=1: (
            f"{narrow(few(3706, rounds, share, merge)[label]).total / 1e6:.1f} MB"
        ),
        few_up=lambda n, label: amount(narrow(few(n)[label]).upload_round),
        few_down=lambda label, *schedule: amount(
            narrow(few(3706, *schedule)[label]).mean_download_round
        ),
        up=lambda n, label, encoding=AS_SET: amount(
            by_items[n][label].sent_as(encoding).upload_round
        ),
        base=lambda n: amount(few(n)["P-LoRA r=8"].communication[0].base),
        holds=lambda n, label: amount({**by_items[n], **bare_at(n)}[label].storage.client.total),
        compressed=f"{megabytes(bare['C-Hash 512 x 2']):.0f} MB",
        **accuracy(),
    )


if __name__ == "__main__":
    page = parser(__doc__).parse_args().out / PAGE
    page.write_text(render(), encoding="utf-8")
    print(page)
