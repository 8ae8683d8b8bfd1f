"""Costs and formulas against the running system: equal to the byte."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, log2
from typing import Any

import pytest
import torch

from fedpeft.client import client_round
from fedpeft.cost import AS_SET, costs
from fedpeft.cost.communication import Communication, cohorts
from fedpeft.cost.formulas import FORMULAS
from fedpeft.cost.storage import nbytes, storage
from fedpeft.protocol.encodings import CODECS
from fedpeft.protocol.messages import (
    Broadcast,
    Upload,
)
from fedpeft.simulation import Simulation
from fedpeft.testing import Toy
from fedpeft.training.task import payload_shapes

from .tools import ADAPTERS, BACKBONES, names, scale_of, second_order, strategy_of, toy

FREE: dict[str, Any] = {"ceil": ceil, "log2": log2, "min": min, "max": max}


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("mode", ["peft", "compress"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_run_sends_the_bytes_that_were_told(
    adapter: str, mode: str, backbone: str, encoding: str
) -> None:
    run = toy(adapter, backbone, mode, encoding=encoding)
    (cost,) = costs([strategy_of(run)], scale_of(run), measured=False)
    own, plain = cost.communication[0], cost.sent_as(encoding)
    assert own == replace(plain, encoding=AS_SET)
    assert_told(run, own)


@pytest.mark.parametrize(("up", "down"), [("float32", "int8"), ("int8", "float16")])
@pytest.mark.parametrize("mode", ["peft", "compress"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_directions_that_differ(adapter: str, mode: str, up: str, down: str) -> None:
    """With a backbone that has shared tensors."""
    run = toy(adapter, "fedncf", mode, encoding=up, download_encoding=down)
    (cost,) = costs([strategy_of(run)], scale_of(run), measured=False)
    own = cost.communication[0]
    assert (own.encoding, own.upload_encoding, own.download_encoding) == (AS_SET, up, down)
    assert own.upload_round == cost.sent_as(up).upload_round
    assert own.download_round == cost.sent_as(down).download_round != own.upload_round
    assert_told(run, own)


def assert_told(run: Toy, told: Communication) -> None:
    """Compare with every round of a real run's traffic, and with the length of real messages."""
    simulation = run.simulation()
    own = (told.upload_round, told.download_round)
    warmup = (told.warmup_upload_round, told.warmup_download_round)
    assert messages(simulation) == (own if warmup == (None, None) else warmup)
    last = [simulation.step().entry for _ in range(8)][-1]
    assert (last.upload, last.download) == tuple(last.clients * size for size in own)
    assert messages(simulation) == own
    assert last.bytes_per_client == simulation.traffic.bytes_per_client
    assert_paid(simulation, told)


def assert_paid(simulation: Simulation, told: Communication) -> None:
    """Compare with the totals of a finished run's traffic, kind by kind."""
    totals, clients = simulation.traffic.totals, simulation.traffic.n_clients
    first, steps = simulation.state.first, simulation.state.steps
    assert (told.base, told.subspace) == (len(first.base), len(first.subspace))
    assert {told.merge_round} >= {step.nbytes for step in steps}
    for key in ("participations", "upload", "download", "warmup", "initial_download", "resync"):
        assert getattr(told, key) == getattr(totals, key) / clients, key
    sent = totals.upload + totals.download + totals.initial_download + totals.resync
    assert told.total == sent / clients
    down = (totals.download + totals.resync) / totals.participations
    assert told.mean_download_round == pytest.approx(down)


SECOND_ORDER = {
    "everybody, a merge in each round": {"cohort": 1.0, "refresh_every": 1},
    "a quarter, a merge in each round": {"cohort": 0.25, "refresh_every": 1},
    "a half, a merge in each third": {"cohort": 0.5, "refresh_every": 3},
    "a warm-up": {"cohort": 0.5, "refresh_every": 2, "warmup_rounds": 3},
}


@pytest.mark.parametrize(("up", "down"), [("float32", "float32"), ("int8", "int8")])
@pytest.mark.parametrize("schedule", SECOND_ORDER)
@pytest.mark.parametrize("backbone", ["fedmf", "fedpergnn"])
@pytest.mark.parametrize("adapter", ["Full", "LoRA", "Hash", "RQ"])
def test_a_second_order_server(
    adapter: str, backbone: str, schedule: str, up: str, down: str
) -> None:
    """Statistics in uploads, broadcasts of zeros without values, and merges in every round."""
    phases = {} if adapter == "Full" else SECOND_ORDER[schedule]
    cohort = SECOND_ORDER[schedule]["cohort"]
    settings = {**phases, "cohort": cohort, "encoding": up, "download_encoding": down}
    run = second_order(adapter, backbone, **settings)
    (cost,) = costs([strategy_of(run)], scale_of(run), measured=False)
    told, simulation = cost.communication[0], run.simulation()
    entries = [simulation.step().entry for _ in range(8)]
    adapted = [entry for entry in entries if entry.phase == "adapt"]
    assert {entry.upload / entry.clients for entry in adapted} == {told.upload_round}
    assert_paid(simulation, told)
    codec = CODECS[up]()
    moment = 6 * 3 if adapter == "LoRA" else 6 * 7 // 2  # k r of rank 3
    assert told.statistics_round == codec.size({"moment": torch.Size((moment,))}) > 0
    without = Upload.size(codec.size(payload_shapes(simulation.replica.backbone)))
    assert told.upload_round - told.statistics_round == without
    if adapter != "Full" and phases["refresh_every"] == 1:
        fresh = {entry.download / entry.clients for entry in entries}
        assert fresh == {Broadcast.size(0)}


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("adapter", ["Full", "LoRA", "RQ"])
def test_a_second_order_server_keeps_what_was_told(adapter: str, momentum: float) -> None:
    optimizer = {"kind": "newton", "lr": 0.3, "momentum": momentum}
    merges = {} if adapter == "Full" else {"refresh_every": 3}
    run = second_order(adapter, "fedmf", server_optimizer=optimizer, encoding="int8", **merges)
    (cost,) = costs([strategy_of(run)], scale_of(run), measured=False)
    simulation = run.simulation()
    for _ in range(8):
        simulation.step()
    assert cost.storage.server.optimizer == nbytes(simulation.state.moments.values())
    assert (cost.storage.server.optimizer > 0) == (momentum > 0)
    assert cost.storage.server.feedback == nbytes(simulation.state.residual.values())


def messages(simulation: Simulation) -> tuple[int, int]:
    """Return the lengths of a real upload and a real broadcast."""
    simulation.pipeline.begin(simulation.round, simulation.replica.backbone)
    broadcast, _ = simulation.server.broadcast(simulation.state)
    state = simulation.population.state(0)
    upload, _ = client_round(simulation.replica, simulation.pipeline, state, broadcast)
    return len(upload.to_bytes()), len(broadcast.to_bytes())


def test_the_toy_run_has_all_phases() -> None:
    """So that the test above compares something."""
    run = toy("RQ")
    (cost,) = costs([strategy_of(run)], scale_of(run), measured=False)
    sent = cost.sent_as("float32")
    assert min(sent.warmup, sent.initial_download, sent.resync) > 0


@pytest.mark.parametrize(("up", "down"), [("float32", "int8"), ("int8", "float16")])
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("mode", ["peft", "compress"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_run_keeps_the_bytes_that_were_told(
    adapter: str, mode: str, backbone: str, up: str, down: str
) -> None:
    """Against the tensors that live in a simulation after its last round."""
    run = toy(adapter, backbone, mode, encoding=up, download_encoding=down)
    (cost,) = costs([strategy_of(run)], scale_of(run), measured=False)
    simulation = run.simulation()
    for _ in range(8):
        simulation.step()
    server, client = cost.storage.server, cost.storage.client
    state, module = simulation.state, simulation.replica.backbone
    item = {name: t for name, t in state.payload.items() if name.startswith("item.")}
    assert server.base + server.subspace == nbytes(state.item.buffers())
    assert server.adapter == nbytes(item.values())
    assert server.adapter + server.shared == nbytes(state.payload.values())
    assert server.optimizer == nbytes(state.moments.values())
    assert server.feedback == nbytes(state.residual.values())
    assert client.base + client.subspace == nbytes(module.item.buffers())
    assert client.adapter == nbytes(module.item.parameters())
    assert client.shared == nbytes(module.shared().values())
    assert client.local * 12 == nbytes(simulation.population.local.values())
    assert client.feedback == 0


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_documented_formulas(adapter: str) -> None:
    run = toy(adapter)
    strategy, scale = strategy_of(run), scale_of(run)
    (cost,) = costs([strategy], scale, measured=True)
    assert cost.measured is not None
    assert cost.measured.storage == cost.storage
    letters = {**FREE, **names(scale, strategy.adapter)}

    def value(formula: str) -> int:
        found: int = eval(formula, {"__builtins__": {}}, letters)
        return found

    told = FORMULAS[adapter]
    sent, memory = cost.sent_as("float32"), cost.storage.client
    payload = 4 * value(told.payload)
    assert payload == memory.adapter
    assert (Upload.size(payload), Broadcast.size(payload)) == (
        sent.upload_round,
        sent.download_round,
    )
    assert value(told.payload) == cost.capacity.parameters
    assert value(told.base) == sent.base == memory.base
    assert value(told.codes) == sent.subspace
    assert value(told.kept_codes) == memory.subspace
    vector, step = cost.computation.vector, cost.computation.step
    assert value(told.matmul) == vector.matmul
    assert value(told.elementwise) == vector.elementwise
    assert value(told.integer) == vector.integer
    assert value(told.step_matmul) == step.matmul
    assert value(told.rank) == cost.capacity.rank
    assert cost.measured.rank <= value(told.rank)


def test_cohorts_are_those_of_the_simulation() -> None:
    run = toy("LoRA")
    simulation = run.simulation()
    for number, users in enumerate(cohorts(8, 0.25, scale_of(run))):
        assert set(users) == set(simulation.sampler.rows(number))


def test_sgd_keeps_no_moments() -> None:
    run = toy("LoRA", server_optimizer={"kind": "sgd", "lr": 1.0})
    module = run.simulation().replica.backbone
    assert storage(module, strategy_of(run).training).server.optimizer == 0
