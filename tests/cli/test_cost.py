"""`fedpeft cost`: what it prints, what it refuses, and that a finished run paid what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedpeft.cost import AS_SET, costs
from fedpeft.cost.table import as_rich
from fedpeft.experiment import RunConfig
from fedpeft.experiment.costs import scale_of, strategies, strategy
from fedpeft.protocol.messages import (
    Broadcast,
    Snapshot,
    Upload,
)
from fedpeft.report.sweeps import read_records
from fedpeft.sweep import read_grid

from .spoilt import table
from .tools import SMALL, fedpeft

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
QUICK = ("--items", "50", "--dim", "4", "--clients", "9", "--set", "training.rounds=5")
LABELS = [
    "Full",
    "P-LoRA r=4",
    "P-Hash 512 x 2",
    "P-Hash-SENet 512 x 2",
    "P-RQ 256 x 4",
]


def told(*words: str) -> dict[str, Any]:
    done = fedpeft("cost", *QUICK, "--no-measure", *words, "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_side_by_side(here: Path) -> None:
    done = fedpeft("cost", *QUICK)
    assert done.code == 0, done.err
    for name in ("Full", "P-LoRA", "P-Hash ", "P-Hash-SENet", "P-RQ", "256 x 4"):
        assert done.out.count(name) == 4
    assert "n = 50 items of k = 4 values" in done.err


@pytest.mark.parametrize("items", [1, 3706, 10_000_000])
def test_tables_fit_a_terminal(items: int) -> None:
    scale = scale_of({}, items=items)
    out = StringIO()
    console = Console(file=out, width=80)
    for shown in as_rich(costs(strategies({}), scale, measured=False), scale):
        console.print(shown)
    assert "…" not in out.getvalue()
    assert "512 x 2" in out.getvalue()


def test_measured(here: Path) -> None:
    done = fedpeft("cost", *QUICK, "--json")
    for cost in json.loads(done.out)["strategies"]:
        assert cost["measured"]["storage"] == cost["storage"]
        assert cost["measured"]["artifact"] > cost["storage"]["client"]["adapter"]
        assert all(ms > 0 for ms in cost["measured"]["timing"].values())


def test_defaults(here: Path) -> None:
    """MovieLens 1M, and first the strategy's own setting: RQ's broadcasts are narrow."""
    found = json.loads(fedpeft("cost", "--no-measure", "--json").out)
    assert found["scale"] == {"items": 3706, "dim": 32, "clients": 6040, "touched": 166, "seed": 0}
    for cost in found["strategies"]:
        names = [sent["encoding"] for sent in cost["communication"]]
        assert names == ["as set", "float32", "float16", "int8", "int4"]
    first = found["strategies"][-1]["communication"][0]
    assert (first["upload_encoding"], first["download_encoding"]) == ("int8", "int8")
    assert first["upload_round"] == Upload.size(34_816)
    assert first["download_round"] == Broadcast.size(34_816)


def test_a_small_share_of_many_clients(here: Path) -> None:
    """Ten clients in each of 5 rounds: half a ten-thousandth of a round for each of a million."""
    words = ("--clients", "1000000", "--set", "training.cohort=0.00001", "--items", "50")
    sent = told(*words)["strategies"][0]["communication"][0]
    assert sent["upload"] == pytest.approx(5e-5 * sent["upload_round"])


@pytest.mark.parametrize("dim", [32, 64])
def test_committed_runs_paid_what_they_cost(dim: int, tmp_path: Path) -> None:
    """But for resync, which depends on the cohorts that a seed draws."""
    (tmp_path / "ml-1m").mkdir()  # its sizes are known, nothing of it is read
    grid = read_grid(EXPERIMENTS / "headline.toml", tmp_path)
    configs = {(*cell.labels.values(), cell.config.seed): cell.config for cell in grid.cells()}
    records = read_records(EXPERIMENTS / "results" / "headline.jsonl")

    def asked(row: Mapping[str, Any]) -> RunConfig:
        return configs[(*(row[axis] for axis in records.facts.axes), row["seed"])]

    rows = [row for row in records.rows if row["status"] == "done" and asked(row).items.dim == dim]
    assert rows
    backends = [strategy(asked(row)) for row in rows]
    scale = scale_of({"items": {"dim": dim}})
    for row, cost in zip(
        rows, costs(backends, scale, measured=False, encodings=(AS_SET,)), strict=True
    ):
        # these runs were counted without the heads of messages
        heads = (Upload.size(0) + Broadcast.size(0)) * 0.1 * row["rounds"]
        paid = row["bytes.total_per_client_mean"] + heads
        config, sent = asked(row), cost.communication[0]
        if config.adapter.config.keeps_base and config.adapter.config.spans:  # type: ignore[attr-defined]
            # and zeros had bytes in the first broadcast of each subspace
            fresh = sum(
                config.training.event_at(number) is not None for number in range(row["rounds"])
            )
            paid -= 0.1 * fresh * (sent.download_round - Broadcast.size(0))
        assert cost.communication[0].total == pytest.approx(paid, rel=1e-3), row["strategy"]


def test_settings_of_each_strategy(here: Path) -> None:
    words = [w for s in ("lora.rank=7", "hash.rows=9", "rq.levels=2") for w in ("--set", s)]
    labels = [cost["label"] for cost in told(*words)["strategies"]]
    assert labels == ["Full", "P-LoRA r=7", "P-Hash 9 x 2", "P-Hash-SENet 9 x 2", "P-RQ 256 x 2"]
    words = [
        "--set",
        "adapter.kind=rq",
        "--set",
        "adapter.codes=8",
        "--set",
        "adapter.mode=compress",
    ]
    found = told(*words)["strategies"]
    assert found[-1]["label"] == "C-RQ 8 x 4"
    assert {cost["communication"][0]["base"] for cost in found} == {0}


def test_sizes_of_a_data_set(here: Path) -> None:
    table(here)
    done = fedpeft("cost", "--set", "data.source=data", "--no-measure", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["scale"]["items"] < 20


def test_a_run_paid_what_its_cost_says(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    costs = {cost["label"]: cost for cost in result["cost"]["strategies"]}
    assert list(costs) == LABELS
    own = costs[result["cost"]["strategy"]]
    assert own["communication"][0]["total"] == result["bytes"]["total_per_client_mean"]
    assert "What this strategy costs" in (finished / "report.html").read_text()


@pytest.mark.parametrize("adapter", ["full", "rq"])
def test_alternatives_of_a_run(adapter: str, here: Path) -> None:
    """A run of the full table compares itself with adapters as their preset has them."""
    words = ("--rounds", "10", "--adapter", adapter, "--set", "adapter.mode=peft", "--out", "new")
    assert fedpeft("run", *SMALL, *words).code == 0
    cost = json.loads((here / "new" / "result.json").read_text())["cost"]
    sent = {c["label"]: c["communication"][0] for c in cost["strategies"]}
    lora, full = sent["P-LoRA r=4"], sent["Full"]
    assert (lora["warmup_upload_round"] == full["upload_round"]) == (adapter == "rq")
    assert lora["upload_encoding"] == "int8"
    assert full["upload_encoding"] == ("float32" if adapter == "full" else "int8")


def test_alternatives_of_a_full_table_have_its_coded_base(here: Path) -> None:
    words = ("--rounds", "10", "--adapter", "full", "--out", "new")
    coded = ("--set", "items.base_codes.levels=2", "--set", "items.base_codes.codes=2")
    assert fedpeft("run", *SMALL, *words, *coded).code == 0
    cost = json.loads((here / "new" / "result.json").read_text())["cost"]
    sent = {c["label"]: c["communication"][0] for c in cost["strategies"]}
    assert sent["Full"]["base"] == 0
    assert 0 < sent["P-LoRA r=4"]["base"] < sent["Full"]["upload_round"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--items", "0"], "Invalid value for '--items': …; see fedpeft cost --help"),
        (["--items", "many"], "Invalid value for '--items': …; see fedpeft cost --help"),
        (["--items", "2147483648"], "Invalid value for '--items': …; see fedpeft cost --help"),
        (["--dim", "-3"], "Invalid value for '--dim': …; see fedpeft cost --help"),
        (["--dim", "0"], "Invalid value for '--dim': …; see fedpeft cost --help"),
        (["--clients", "0"], "Invalid value for '--clients': …; see fedpeft cost --help"),
        (["--touched", "0"], "Invalid value for '--touched': …; see fedpeft cost --help"),
        (["absent.toml"], "config file absent.toml does not exist"),
        (["--set", "lora.rnk=3"],
         "unknown key 'lora.rnk'; known keys here are basis, init_std, mode, rank, zero"),
        (["--set", "lora.rank=0"],
         "lora.rank = 0: input should be greater than or equal to 1"),
        (["--items", "10", "--set", "hash.rows=10000000000"],
         "P-Hash 10000000000 x 2 takes 1,280.0 GB with 10 items, too much to measure …"),
        (["--no-measure", "--dim", "1" + "0" * 24],
         "costs cannot be told from shapes: TypeError: …"),
        (["--set", "training.rounds=1000001"],
         "training.rounds = 1000001: input should be less than or equal to 1000000"),
        (["--set", "lora=3"], "lora = 3: must be a table of settings"),
        (["--set", "lora.mode=compress"],
         "lora.mode: all strategies have one mode; set adapter.mode"),
        (["--set", "hash.pooling=senet"],
         "hash.pooling: both poolings are shown, so there is none to set"),
        (["--set", "adapter=3"], "adapter = 3: must be a table of settings"),
        (["--set", "adapter.kind=best"], "unknown adapter 'best'; known are full, hash, lora, rq"),
        (["--set", "loras.rank=3"], "unknown key 'loras'; known keys here are …"),
        (["--set", "rank"], "override 'rank' must look like table.key=value"),
        (["--set", "data.source=nowhere"],
         "data.source = 'nowhere' is neither 'synthetic' nor a folder or a file that exists; …"),
        (["--set", "adapter.mode=compress", "--set", "training.refresh_every=5"],
         "training.refresh_every = 5 would not act: it needs an adapter with a base …"),
    ],
)  # fmt: skip
def test_bad_input(words: list[str], sentence: str, here: Path) -> None:
    done = fedpeft("cost", *words)
    assert done.code == 2
    assert not done.out
    assert len(done.err.splitlines()) == 1
    pattern = ".+".join(map(re.escape, f"fedpeft: {sentence}".split("…")))
    assert re.fullmatch(pattern, done.err.strip())


def test_a_second_order_preset(here: Path) -> None:
    """Everybody in each round; what cannot be trained so is left out."""
    found = told("--preset", "newton")["strategies"]
    assert [cost["kind"] for cost in found] == ["full", "lora", "hash", "rq"]
    for cost in found:
        sent = cost["communication"][0]
        assert sent["participations"] == 5
        assert sent["statistics_round"] > 0
        fresh = cost["kind"] != "full"
        assert sent["download"] == 5 * (Broadcast.size(0) if fresh else sent["download_round"])
        if not fresh:
            assert sent["resync"] == 0
            continue
        whole = Snapshot.size(sent["base"] + sent["subspace"])
        assert sent["resync"] == 4 * min(sent["merge_round"], whole)
    table = fedpeft("cost", *QUICK, "--no-measure", "--preset", "newton")
    for row in ("of it statistics", "a merge", "down, mean round", "rounds of a client"):
        assert f" {row} " in table.out
    assert "left out" in table.err
    assert "of it statistics" not in fedpeft("cost", *QUICK, "--no-measure").out


@pytest.mark.parametrize(("adapter", "share"), [("lora", "1.0"), ("hash", "0.2"), ("full", "0.2")])
def test_a_second_order_run_paid_what_its_cost_says(adapter: str, share: str, here: Path) -> None:
    words = ("--preset", "newton", "--adapter", adapter, "--rounds", "6", "--out", "new")
    done = fedpeft("run", *SMALL, *words, "--set", f"training.cohort={share}")
    assert done.code == 0, done.err
    result = json.loads((here / "new" / "result.json").read_text())
    costs = {cost["label"]: cost["communication"][0] for cost in result["cost"]["strategies"]}
    assert not any("SENet" in label for label in costs)
    own = costs[result["cost"]["strategy"]]
    assert own["total"] == result["bytes"]["total_per_client_mean"]
    lines = (here / "new" / "traffic.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    for kind in ("upload", "download", "initial_download", "resync"):
        assert own[kind] == sum(entry[kind] for entry in log) / 60, kind


def test_uploads_of_rows_are_counted_for_the_items_touched(here: Path) -> None:
    words = ("--set", "loss.kind=bpr", "--set", "training.upload=rows", "--touched", "10")
    dense = told("--set", "loss.kind=bpr")["strategies"]
    for cost, whole in zip(told(*words)["strategies"], dense, strict=True):
        mine, other = cost["communication"][1], whole["communication"][1]
        assert mine["download_round"] == other["download_round"]
        if cost["kind"] in ("full", "lora"):  # hash and rq have no rows that could stay at home
            assert mine["upload_layout"] == "rows"
            assert mine["upload_round"] < other["upload_round"]
        else:
            assert mine == other
    table = fedpeft("cost", *QUICK, "--no-measure", *words).out
    assert re.search(r"^ *layout up +rows +rows +dense +dense +dense", table, re.M)
