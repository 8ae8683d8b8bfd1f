"""A shard of a population, whose ids are not its rows, draws what its clients draw in the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedpeft.client import client_round
from fedpeft.data.ragged import take
from fedpeft.graph.expansion import Expansion
from fedpeft.protocol.traffic import Traffic
from fedpeft.simulation import Simulation
from fedpeft.simulation.backend import BACKENDS
from fedpeft.simulation.cohort import CohortSampler
from fedpeft.simulation.population import Population
from fedpeft.testing import Toy
from fedpeft.testing.toy import GRADIENT
from toys import ADAM, toy

from .rounds import BACKEND_NAMES, run_round

IDS = np.array([9, 2, 4, 10, 0])
"""Clients of the shard, in the order of its rows."""
WAYS: dict[str, dict[str, Any]] = {"plain": {}, "int8": {"encoding": "int8"}}


def run_of(**training: Any) -> Toy:
    run = toy("full", "bpr", cohort=1.0, **{**GRADIENT, "local_optimizer": ADAM, **training})
    return replace(run, backbone=("fedncf", {"hidden": [7]}))


def shard(simulation: Simulation) -> Population:
    """Return some clients of a simulation as a population of their own."""
    train = take(simulation.population.train, IDS)
    model = simulation.replica.backbone
    return Population(train, model, seed=0, device=torch.device("cpu"), ids=IDS)


def sampler(simulation: Simulation, population: Population) -> CohortSampler:
    return CohortSampler.of(simulation.task, population.train, ids=population.ids)


def test_start_values_are_those_of_the_same_clients() -> None:
    simulation = run_of().simulation()
    population = shard(simulation)
    for name, tensor in population.local.items():
        assert torch.equal(tensor, simulation.population.local[name][IDS]), name
    assert len(population.local["user"].unique(dim=0)) == len(IDS)
    assert [population.state(row).id for row in range(len(IDS))] == IDS.tolist()


def test_negatives_are_those_of_the_same_clients() -> None:
    simulation = run_of().simulation()
    own, whole = sampler(simulation, shard(simulation)).draw(3), simulation.sampler.draw(3)
    there = {int(client): place for place, client in enumerate(whole.ids)}
    assert sorted(own.ids.tolist()) == sorted(IDS.tolist())
    for place, (row, client) in enumerate(zip(own.rows, own.ids, strict=True)):
        assert IDS[row] == client
        assert np.array_equal(own.of(place), whole.of(there[int(client)]))


@pytest.mark.parametrize(
    ("backend", "way"),
    [(b, way) for b in BACKEND_NAMES for way in WAYS if (b, way) != ("fused", "int8")],
)
def test_a_round_of_the_shard_is_that_of_the_same_clients(backend: str, way: str) -> None:
    """Negatives, dither and all: local parameters, sums and bytes."""
    simulation = run_of(**WAYS[way]).simulation(backend)
    population = shard(simulation)
    work, _ = simulation._work()
    own = sampler(simulation, population).draw(0)
    traffic = Traffic(len(IDS))
    part = replace(work, population=population, cohort=own, traffic=traffic)
    found = BACKENDS[simulation.backend](part)
    expected = run_round(simulation, IDS.tolist())
    assert (found.clients, found.weight) == (len(IDS), expected.weight)
    for name, tensor in expected.sum.items():
        torch.testing.assert_close(found.sum[name], tensor, atol=1e-6, rtol=1e-5)
    for name, tensor in population.local.items():
        mine = simulation.population.local[name][IDS]
        torch.testing.assert_close(tensor, mine, atol=1e-6, rtol=1e-5)


def test_uploads_of_the_shard_are_those_of_the_same_clients() -> None:
    simulation = run_of(encoding="int4").simulation("sequential")
    population = shard(simulation)
    work, _ = simulation._work()
    assert work.message is not None
    for row, client in enumerate(IDS.tolist()):
        one, two = (
            client_round(work.replica, work.pipeline, state, work.message)[0].to_bytes()
            for state in (population.state(row), simulation.population.state(client))
        )
        assert one == two


def test_pseudo_items_and_noise_are_those_of_the_same_clients() -> None:
    run = replace(
        toy("full", "bpr", **GRADIENT), backbone=("fedpergnn", {"expansion": {"noise": 0.5}})
    )
    simulation = run.simulation()
    whole = simulation.expansion
    assert whole is not None
    train = take(simulation.population.train, IDS)
    part = Expansion(train, run.split.n_items, whole.config, seed=0, ids=IDS)
    for row, client in enumerate(IDS.tolist()):
        assert np.array_equal(part.pseudo.of(row), whole.pseudo.of(client))
    noise, everyone = part.noise(np.arange(len(IDS)), 6, 4), whole.noise(np.arange(12), 6, 4)
    assert noise is not None
    assert everyone is not None
    assert np.array_equal(noise, everyone[IDS])
