"""Clients whose training is not finite: dropped and counted, and nobody else notices."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fedpeft.errors import RunError
from fedpeft.losses.bpr import BPR, BPRConfig
from fedpeft.protocol.aggregate import Partial, finite
from fedpeft.simulation import Simulation, checkpoint
from fedpeft.simulation.problem import LocalProblem
from fedpeft.simulation.simulation import GIVE_UP_AFTER
from fedpeft.testing import Toy
from fedpeft.testing.toy import GRADIENT, PAPER
from toys import ADAM, SGD, everything, same, toy

from .rounds import BACKEND_NAMES, run_round
from .test_backends import many_buckets

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "gradient": ("bpr", {**GRADIENT, "local_optimizer": SGD}),
    "joint": ("softmax", {**GRADIENT, "local_steps": 0, "joint": True, "local_optimizer": SGD}),
    "paper": ("bce", {**PAPER, "local_optimizer": ADAM, "payload_optimizer": ADAM}),
    "over all items": ("ials", {**GRADIENT, "local_optimizer": SGD}),
    "one step, encoded": ("bpr", {**GRADIENT, "local_optimizer": SGD, "encoding": "int8"}),
}
CASES = [
    (backend, way)
    for backend in BACKEND_NAMES
    for way in WAYS
    if backend != "fused" or way not in ("paper", "one step, encoded")
]
VICTIM = 6


def run_of(way: str, adapter: str = "full", **training: Any) -> Toy:
    loss, settings = WAYS[way]
    return toy(adapter, loss, cohort=1.0, **{**settings, **training})


def others(simulation: Simulation) -> list[int]:
    return [user for user in range(len(simulation.population)) if user != VICTIM]


def rounds(simulation: Simulation, count: int) -> None:
    """Run some rounds."""
    for _ in range(count):
        simulation.step()


def equal(one: Partial, two: Partial) -> None:
    """Raise unless two sums are equal within rounding."""
    assert (one.clients, one.weight) == (two.clients, two.weight)
    assert one.loss_sum == pytest.approx(two.loss_sum, rel=1e-5)
    for name, tensor in two.sum.items():
        torch.testing.assert_close(one.sum[name], tensor, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize(("backend", "way"), CASES)
def test_a_poisoned_client_is_left_out(backend: str, way: str, value: float) -> None:
    """With 1e30 its parameters are finite, and its loss is not once it is penalised for them."""
    run = run_of(way, local_decay=0.1)
    simulation, healthy = run.simulation(backend), run.simulation(backend)
    local = simulation.population.local["user"]
    local[VICTIM] = value
    kept = local[VICTIM].clone()
    with many_buckets():
        found = run_round(simulation)
        expected = run_round(healthy, others(healthy))
    assert (found.rejected, expected.rejected) == (1, 0)
    equal(found, expected)
    torch.testing.assert_close(local[VICTIM], kept, equal_nan=True, rtol=0, atol=0)
    for user in others(simulation):
        torch.testing.assert_close(local[user], healthy.population.local["user"][user])


class Odd(BPR):
    """BPR that is not finite for clients of fourteen train items, of whom there is one."""

    def __call__(self, positive: Tensor, negative: Tensor, weight: Tensor) -> Tensor:
        lost = torch.where(weight.sum(-1) == 14, torch.nan, 0.0)
        return super().__call__(positive, negative, weight) + lost


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_a_loss_that_is_not_finite_for_one_client(backend: str) -> None:
    run = run_of("gradient", recency={"half_life": 0.0})
    victim = int(run.split.train.lengths().argmax())
    healthy, simulation = run.simulation(backend), run.simulation(backend)
    object.__setattr__(simulation.task, "loss", Odd(BPRConfig()))
    simulation.problem = LocalProblem(simulation.task, simulation.replica.backbone)
    before = simulation.population.local["user"][victim].clone()
    found = run_round(simulation)
    expected = run_round(healthy, [user for user in range(12) if user != victim])
    assert found.rejected == 1
    equal(found, expected)
    assert torch.equal(simulation.population.local["user"][victim], before)


def test_a_huge_client_without_a_penalty_is_as_large_in_all_backends() -> None:
    """Its loss is finite; so infinity times a decay of zero must not make it something else."""
    found = []
    for backend in ("sequential", "vmap"):
        simulation = run_of("paper").simulation(backend)
        simulation.population.local["user"][VICTIM] = 1e30
        found.append(run_round(simulation))
    assert [total.rejected for total in found] == [0, 0]
    equal(*found)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_dropped_uploads_are_counted_and_paid_for(backend: str) -> None:
    simulation, healthy = (run_of("gradient").simulation(backend) for _ in range(2))
    simulation.population.local["user"][VICTIM] = math.nan
    found, expected = simulation.step(), healthy.step()
    assert (found.entry.rejected, expected.entry.rejected) == (1, 0)
    assert found.entry.clients == expected.entry.clients == 12
    assert found.entry.upload == expected.entry.upload
    assert math.isfinite(found.loss)
    assert finite(simulation.state.payload.values())


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@pytest.mark.parametrize("encoding", ["float32", "int8"])
def test_a_round_of_bad_uploads_changes_nothing(backend: str, encoding: str) -> None:
    run = run_of("gradient", download_encoding=encoding)
    simulation = run.simulation(backend)
    simulation.step()
    simulation.population.local["user"].fill_(math.nan)
    payload = {name: tensor.clone() for name, tensor in simulation.state.payload.items()}
    moments = {name: tensor.clone() for name, tensor in simulation.state.moments.items()}
    result = simulation.step()
    assert (result.entry.rejected, result.loss, simulation.round) == (12, 0.0, 2)
    assert same(simulation.state.payload, payload)
    assert same(simulation.state.moments, moments)


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_a_run_in_vain_ends(backend: str) -> None:
    simulation = run_of("gradient", rounds=50).simulation(backend)
    good = simulation.population.local["user"].clone()
    simulation.population.local["user"].fill_(math.nan)
    for _ in range(GIVE_UP_AFTER - 1):
        simulation.step()
    simulation.population.local["user"].copy_(good)
    simulation.step()  # one good round, and the count begins anew
    simulation.population.local["user"].fill_(math.nan)
    for _ in range(GIVE_UP_AFTER - 1):
        simulation.step()
    with pytest.raises(RunError, match=f"no upload of {GIVE_UP_AFTER} rounds in a row") as caught:
        simulation.step()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("backend", BACKEND_NAMES)
def test_exploding_learning_rates_end_in_one_sentence(backend: str) -> None:
    """Whole runs diverge into `RunError`, not into garbage that looks like results."""
    steep = {"kind": "sgd", "lr": 1e30}
    run = run_of("gradient", rounds=50, server_optimizer=steep, local_optimizer=steep)
    simulation = run.simulation(backend)
    with pytest.raises(RunError, match="lower the learning rates"):
        rounds(simulation, 50)


@pytest.mark.parametrize("where", ["payload", "moments", "residual", "local"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_state_that_is_not_finite_is_not_saved(where: str, value: float, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    run = toy("lora", download_encoding="int8")
    simulation = run.simulation()
    simulation.step()
    checkpoint.save(simulation, path)
    before, good = path.read_bytes(), everything(simulation)
    simulation.step()
    group = {
        "payload": simulation.state.payload,
        "moments": simulation.state.moments,
        "residual": simulation.state.residual,
        "local": simulation.population.local,
    }[where]
    next(iter(group.values())).view(-1)[-1] = value
    with pytest.raises(RunError, match=f"{where}/.* became infinite or NaN") as caught:
        checkpoint.save(simulation, path)
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    resumed = run.simulation()
    checkpoint.load(resumed, path)
    assert same(everything(resumed), good)
