"""The server's step on a sum of changes: optimisers, schedules, decay."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from fedpeft.protocol.aggregate import Partial, combine
from fedpeft.server import ServerState
from fedpeft.testing.toy import PAPER
from toys import ADAPTERS, SGD, everything, toy


def of_all(state: ServerState, change: float, weight: float = 1.0) -> Partial:
    """Return the sum of clients whose every value changed by as much, of this weight together."""
    moved = {n: torch.full_like(t, weight * change) for n, t in state.payload.items()}
    return Partial(moved, weight, 1, 0, 0.0)


def stepped(change: float, rounds: int, weight: float = 1.0, **training: Any) -> list[torch.Tensor]:
    """Feed the server the same mean for some rounds; return the table after each."""
    simulation = toy("full", **training).simulation()
    state = simulation.state
    tables = [state.payload["item.weight"]]
    for _ in range(rounds):
        state = simulation.server.step(state, of_all(state, change, weight))
        tables.append(state.payload["item.weight"])
    return tables


def test_sgd_with_rate_one_is_federated_averaging() -> None:
    before, after = stepped(0.25, 1, server_optimizer={"kind": "sgd", "lr": 1.0})
    torch.testing.assert_close(after, before + 0.25)


def test_a_sum_is_divided_by_its_weight() -> None:
    for weight in (0.5, 1.0, 61.0):
        before, after = stepped(0.25, 1, weight, server_optimizer={"kind": "sgd", "lr": 1.0})
        torch.testing.assert_close(after, before + 0.25)


def test_partial_sums_add_up_from_left_to_right() -> None:
    parts = [
        Partial({"x": torch.tensor([value])}, weight, 1, rejected, loss)
        for value, weight, rejected, loss in (
            (1e8, 1.0, 0, 2.0),
            (1.0, 2.0, 1, 3.0),
            (-1e8, 3.0, 0, 7.0),
        )
    ]
    total = combine(iter(parts))
    assert (total.weight, total.clients, total.rejected, total.loss) == (6.0, 3, 1, 2.0)
    assert total.sum["x"].item() == 0  # float32 loses the 1; in another order it would be there
    assert combine(parts[:1]) is parts[0]
    assert combine([parts[0], parts[2], parts[1]]).sum["x"].item() == 1
    assert Partial.empty(total.sum).loss == 0
    with pytest.raises(ValueError, match="no partial sum"):
        combine([])


def test_momentum_by_hand() -> None:
    sgd = {"kind": "sgd", "lr": 0.5, "momentum": 0.9}
    tables = stepped(1.0, 3, server_optimizer=sgd)
    moved = [float((after - tables[0]).mean()) for after in tables[1:]]
    first, second, third = 1.0, 1.9, 1 + 0.9 * 1.9
    assert moved == pytest.approx(
        [0.5 * first, 0.5 * (first + second), 0.5 * (first + second + third)], rel=1e-5
    )


def test_adam_by_hand() -> None:
    adam = {"kind": "adam", "lr": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 0.5}
    tables = stepped(2.0, 2, server_optimizer=adam)
    moved = float((tables[2] - tables[0]).mean())
    assert moved == pytest.approx(2 * 0.1 * 2 / (2 + 0.5), rel=1e-5)  # unbiased moments: 2 and 4


def test_the_warm_up_may_have_an_optimiser_of_its_own() -> None:
    own = {"kind": "adam", "lr": 0.1, "eps": 0.5}
    run = toy("lora", warmup_rounds=2, warmup_optimizer=own, server_optimizer=SGD)
    simulation = run.simulation()
    server, state = simulation.server, simulation.state
    before = state.payload["item.weight"]
    state = server.step(state, of_all(state, 2.0))
    torch.testing.assert_close(state.payload["item.weight"], before + 0.1 * 2 / (2 + 0.5))
    assert state.moments
    state, event = server.begin(server.step(state, of_all(state, 0.0)))
    assert event == "warmup_end"
    after = server.step(state, of_all(state, 1.0))
    assert not after.moments  # plain SGD has none
    for name, tensor in after.payload.items():
        torch.testing.assert_close(tensor, state.payload[name] + SGD["lr"])


def test_the_warm_up_has_the_runs_optimiser_unless_told_otherwise() -> None:
    simulation = toy("lora", warmup_rounds=2, server_optimizer=SGD).simulation()
    state = simulation.server.step(simulation.state, of_all(simulation.state, 1.0))
    moved = state.payload["item.weight"] - simulation.state.payload["item.weight"]
    torch.testing.assert_close(moved, torch.full_like(moved, SGD["lr"]))


def test_cosine_falls_to_a_tenth() -> None:
    tables = stepped(1.0, 8, server_optimizer={"kind": "sgd", "lr": 1.0}, server_schedule="cosine")
    rates = [float((after - before).mean()) for before, after in pairwise(tables)]
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * number / 8)) / 2 for number in range(8)]
    assert rates == pytest.approx(expected, rel=1e-4)
    assert rates[0] == pytest.approx(1)
    assert rates[4] == pytest.approx(0.55, rel=1e-4)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("mode", ["peft", "compress"])
def test_item_decay_is_the_gradient_of_half_the_squared_vectors(adapter: str, mode: str) -> None:
    simulation = toy(adapter, mode=mode, item_decay=0.3, server_optimizer=SGD).simulation()
    before = {name: tensor + 0.1 for name, tensor in simulation.state.payload.items()}
    state = replace(simulation.state, payload=before)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in before.items()}
    own = {name.removeprefix("item."): leaf for name, leaf in leaves.items()}
    penalty = 0.15 * state.item.embed(own, torch.arange(15)).square().sum()
    grads = torch.autograd.grad(penalty, list(leaves.values()))
    after = simulation.server.step(state, of_all(state, 0.0))
    for (name, tensor), grad in zip(after.payload.items(), grads, strict=True):
        torch.testing.assert_close(tensor, before[name] - 0.5 * grad)
        assert not tensor.requires_grad


@pytest.mark.parametrize(
    ("settings", "eps"),
    [
        ({"server_optimizer": {"eps": 0.5}}, 0.5),
        ({"sparse_eps": 3e-3}, 1e-8),  # a third of all pairs is there
        ({"warmup_optimizer": {"eps": 0.7}, "warmup_rounds": 1}, 0.7),
    ],
)
def test_eps_is_the_phase_s_own(settings: dict[str, Any], eps: float) -> None:
    """Adam's first step along g is lr g / (g + eps)."""
    simulation = toy("lora", **{"server_optimizer": {}, **settings}).simulation()
    state = simulation.state
    after = simulation.server.step(state, of_all(state, 1e-3))
    name = max(state.payload)  # B of LoRA, or the table of the warm-up
    moved = float((after.payload[name] - state.payload[name]).mean())
    assert moved == pytest.approx(0.01 * 1e-3 / (1e-3 + eps), rel=1e-3)


def test_decay_shrinks_the_table() -> None:
    sizes = []
    for decay in (0.0, 1.0):
        simulation = toy("full", item_decay=decay).simulation()
        for _ in range(8):
            simulation.step()
        sizes.append(float(simulation.item_vectors().norm()))
    assert sizes[1] < sizes[0]


def test_federated_averaging_moves_no_further_than_its_clients() -> None:
    simulation = toy("full", "bpr", cohort=1.0, **PAPER).simulation()
    before = everything(simulation)["payload.item.weight"]
    simulation.step()
    moved = (simulation.item_vectors() - before).abs().max()
    assert 0 < moved <= 2 * 0.02 * 1.001  # two Adam steps of at most lr each
