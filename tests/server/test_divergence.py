"""Runs that diverge: what is not finite is dropped, counted, and in the end given up."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fedpeft.errors import ConfigError, RunError
from fedpeft.protocol.aggregate import finite
from fedpeft.simulation import RunOptions, Simulation
from fedpeft.simulation.simulation import GIVE_UP_AFTER
from fedpeft.testing import Toy, hand_split
from fedpeft.testing.toy import GRADIENT
from toys import toy


def rounds(simulation: Simulation, count: int) -> None:
    """Run some rounds."""
    for _ in range(count):
        simulation.step()


def spoil(simulation: Simulation, bad: float) -> None:
    """Put a value that is not finite into the payload."""
    payload = {name: tensor.clone() for name, tensor in simulation.state.payload.items()}
    payload["item.B"][0, 0] = bad
    simulation.state = replace(simulation.state, payload=payload)


@pytest.mark.parametrize("backend", ["sequential", "vmap", "fused"])
@pytest.mark.parametrize("loss", ["ials", "bpr"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_run_that_diverged_ends_with_a_reason(loss: str, backend: str, bad: float) -> None:
    """Until then nothing that is not finite reaches the server or stays with a client."""
    training = GRADIENT if loss == "bpr" else {}
    run = toy("lora", loss, cohort=1.0, rounds=30, **training)
    simulation = run.simulation(backend)
    simulation.step()
    spoil(simulation, bad)
    payload = simulation.state.payload
    for number in range(1, GIVE_UP_AFTER):
        entry = simulation.step().entry
        assert (entry.round, entry.clients, entry.rejected) == (number, 12, 12)
        assert simulation.state.payload is payload
        assert finite(simulation.population.local.values())
    spent = simulation.traffic.state()
    with pytest.raises(RunError, match=f"round {GIVE_UP_AFTER};") as caught:
        simulation.step()
    assert len(str(caught.value).splitlines()) == 1
    assert simulation.round == GIVE_UP_AFTER
    assert simulation.traffic.state() == spent


@pytest.mark.parametrize("backend", ["sequential", "vmap", "fused"])
def test_one_sound_round_is_enough_to_go_on(backend: str) -> None:
    simulation = toy("lora", cohort=1.0, rounds=30).simulation(backend)
    whole = simulation.state.payload
    for _ in range(2):
        spoil(simulation, math.nan)
        for _ in range(GIVE_UP_AFTER - 1):
            assert simulation.step().entry.rejected == 12
        simulation.state = replace(simulation.state, payload=whole)
        assert simulation.step().entry.rejected == 0


def test_too_large_a_rate_is_told() -> None:
    run = toy("full", server_optimizer={"kind": "sgd", "lr": 1e30}, rounds=30)
    simulation = run.simulation()
    simulation.step()
    with pytest.raises(RunError, match=r"server_optimizer\.lr"):
        rounds(simulation, GIVE_UP_AFTER)


@pytest.mark.parametrize("backend", ["vmap", "fused"])
def test_too_small_a_ridge_is_told(backend: str) -> None:
    """Two items cannot fix five dimensions; only the decay does."""
    training = {"rounds": 1, "warmup_rounds": 0, "cohort": 1.0, "local_decay": 1e-30}
    simulation = Toy(split=hand_split([[0], [1]], 2), training=training, dim=5).simulation(backend)
    with pytest.raises(RunError, match=r"training\.local_decay"):
        simulation.step()


def test_unknown_device_is_refused() -> None:
    for device in ("tpu-of-dreams", "cuda:77"):
        with pytest.raises(ConfigError, match=device):
            RunOptions(device=device).torch_device()
    assert RunOptions(device="cpu").torch_device() == torch.device("cpu")
