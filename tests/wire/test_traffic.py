"""Every number of the traffic log is the length of bytes: they are made here, and compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fedpeft.items import residual_kmeans
from fedpeft.items.coded import pack_coded, unpack_coded
from fedpeft.simulation import RunOptions, Simulation
from fedpeft.testing import Toy
from fedpeft.testing.toy import random_base
from toys import ADAPTERS, newton, toy

from .server import Near, serve

ROUNDS = 10
PHASES = {"warmup_rounds": 2, "refresh_every": 2, "cohort": 0.3}
GRADIENT: dict[str, Any] = {"local": "gradient", "local_steps": 1, "local_decay": 1e-3}


def check(run: Toy, *, every: int = 0, coded: bool = False) -> Simulation:
    """Compare the log of the fastest backend with the bytes that a run really sends."""
    base = random_base(run.split.n_items, run.dim, run.seed)
    sent = None
    if coded:
        sent = pack_coded(*residual_kmeans(base, levels=2, codes=4, seed=0))
        base = unpack_coded(sent, run.split.n_items, run.dim)
    simulation = Simulation(run.task(), run.split, base, RunOptions(device="cpu"), coded=sent)
    assert simulation.backend != "sequential"
    cohorts, logged = [], []
    for number in range(ROUNDS):
        cohorts.append(simulation.sampler.rows(number).tolist())
        logged.append(simulation.step().entry)
    _, traffic, made = serve(run, Near(), cohorts, every=every, base=base, coded=sent)
    assert logged == made
    assert simulation.traffic.totals == traffic.totals
    return simulation


@pytest.mark.parametrize("encoding", ["float32", "float16", "int8", "int4"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_whole_runs(adapter: str, encoding: str) -> None:
    """Broadcasts, rounded uploads, the table a warm-up ends with, merges, codes and seeds."""
    phases = {} if adapter == "full" else PHASES
    totals = check(toy(adapter, encoding=encoding, **phases)).traffic.totals
    assert totals.upload > 0 < totals.download
    if phases:
        assert totals.initial_download > 0 < totals.resync


@pytest.mark.parametrize("adapter", ["full", "lora", "hash"])
def test_a_second_order_server(adapter: str) -> None:
    """Second moments of readers in uploads, and broadcasts of fresh subspaces without a value."""
    merges = {} if adapter == "full" else {**PHASES, "refresh_every": 1}
    check(newton(adapter, encoding="int8", **merges))


@pytest.mark.parametrize("adapter", ["lora", "hash", "rq"])
def test_a_coded_base(adapter: str) -> None:
    run = toy(adapter, encoding="int8", refresh_every=2, cohort=0.3)
    simulation = check(run, coded=True)
    assert simulation.state.first.coding == "codes"


@pytest.mark.parametrize("mode", ["lora", "hash", "rq"])
def test_pure_compression(mode: str) -> None:
    totals = check(toy(mode, mode="compress")).traffic.totals
    assert totals.resync == 0


@pytest.mark.parametrize("encoding", ["float32", "int8"])
@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_histories(adapter: str, encoding: str) -> None:
    merges = {} if adapter == "full" else {**PHASES, "refresh_every": 1}
    check(newton(adapter, encoding=encoding, upload="rank_one", **merges))


@pytest.mark.parametrize("encoding", ["float32", "int8"])
@pytest.mark.parametrize("upload", ["rows", "rank_one", "actions"])
@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_shorter_uploads(adapter: str, upload: str, encoding: str) -> None:
    phases = {} if adapter == "full" else PHASES
    how: dict[str, Any] = {"upload": upload, "actions": 4}
    run = toy(adapter, "bpr", **how, encoding=encoding, **GRADIENT, **phases)
    dense = toy(adapter, "bpr", encoding=encoding, **GRADIENT, **phases)
    less, more = (check(each).traffic.totals.upload for each in (run, dense))
    assert less < more or adapter == "lora"  # whose rows are hardly longer than an id


def test_graph_expansion() -> None:
    config = {"expansion": {"every": 3, "neighbours": 2, "pseudo": 1, "noise": 0.1}}
    run = replace(toy("lora", encoding="int8", **PHASES), backbone=("fedpergnn", config))
    totals = check(run, every=3).traffic.totals
    assert totals.expansion_up > 0 < totals.expansion_down


@pytest.mark.parametrize("backbone", ["fedncf", "pfedrec"])
def test_shared_parameters(backbone: str) -> None:
    run = toy("rq", "softmax", encoding="int8", **GRADIENT, **PHASES)
    check(replace(run, backbone=(backbone, {"hidden": [6]})))


def test_a_replica_ends_on_the_coded_base() -> None:
    base = random_base(15, 6)
    codes, books = residual_kmeans(base, levels=2, codes=4, seed=0)
    back = unpack_coded(pack_coded(codes, books), 15, 6)
    assert torch.equal(back, books[0][codes[:, 0]] + books[1][codes[:, 1]])
