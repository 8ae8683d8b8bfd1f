"""Mistakes found in public federated code; none of them here."""

from __future__ import annotations

import copy

import pytest
import torch

from fedpeft.adapters import ItemContext, adapters, build
from fedpeft.client import client_round
from fedpeft.protocol.aggregate import Partial, combine
from fedpeft.protocol.messages import (
    Upload,
)
from fedpeft.testing import Toy, hand_split
from fedpeft.testing.toy import GRADIENT, PAPER, random_base
from fedpeft.training.task import payload_parameters
from toys import ADAM, ADAPTERS, SGD, everything, toy

from .rounds import BACKEND_NAMES as BACKENDS
from .rounds import mean, run_round

ROWS = [[0, 1, 2], [5], [7, 8]]


def three_clients(**training: object) -> Toy:
    return Toy(
        split=hand_split(ROWS, 10),
        loss=("bpr", {}),
        training={
            **GRADIENT,
            "rounds": 5,
            "cohort": 1.0,
            "warmup_rounds": 0,
            "refresh_every": 0,
            "server_optimizer": SGD,
            **training,
        },
    )


def one_round(run: Toy, backend: str, users: list[int]) -> tuple[Partial, torch.Tensor]:
    """Run only the given clients; return the sum of their uploads and all local vectors."""
    simulation = run.simulation(backend)
    return run_round(simulation, users), simulation.population.local["user"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_average_is_of_all_clients_and_not_the_last_ones(backend: str) -> None:
    """Uploads that are live references of one model make every 'average' the last client's."""
    run = three_clients()
    together, _ = one_round(run, backend, [0, 1, 2])
    alone = [one_round(run, backend, [user])[0] for user in range(3)]
    assert [part.weight for part in alone] == [len(row) for row in ROWS]
    added = combine(alone)
    torch.testing.assert_close(together.sum["item.weight"], added.sum["item.weight"])
    assert (together.weight, together.clients) == (added.weight, 3)
    for part in alone:
        mine, average = (mean(total)["item.weight"] for total in (part, together))
        assert not torch.allclose(mine, average)


@pytest.mark.parametrize("backend", ["sequential", "vmap"])
def test_no_optimiser_state_flows_between_users(backend: str) -> None:
    """One optimiser object for all clients lets moments of one steer the next."""
    training = {**PAPER, "local_optimizer": ADAM, "payload_optimizer": ADAM}
    run = three_clients(**training)
    _, together = one_round(run, backend, [0, 1, 2])
    for user in range(3):
        _, alone = one_round(run, backend, [user])
        torch.testing.assert_close(together[user], alone[user], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_optimiser_state_stays_with_a_user(backend: str) -> None:
    """The same client doing the same round again gives the same update: moments start fresh."""
    run = three_clients(local_optimizer=ADAM)
    simulation = run.simulation(backend)
    local = simulation.population.local["user"]
    start = local.clone()
    changes = []
    for _ in range(2):
        local.copy_(start)
        changes.append(run_round(simulation).sum["item.weight"])
    assert torch.equal(*changes)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("adapter", ["lora", "hash", "senet", "rq"])
def test_the_base_is_really_frozen(adapter: str, backend: str) -> None:
    """Assigning to `requires_grad_` freezes nothing; the 'frozen' table trains along."""
    simulation = toy(adapter).simulation(backend)
    sides = (simulation.state.item, simulation.replica.backbone.item)
    assert all(item.base is not None for item in sides)
    before = simulation.state.item.base.clone()
    for _ in range(4):
        simulation.step()
    assert all(torch.equal(item.base, before) for item in sides)
    assert not torch.equal(simulation.item_vectors(), before)
    assert not any(name.endswith("base") for name in simulation.state.payload)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_payload_tensor_is_trained(adapter: str, backend: str) -> None:
    """Codebooks that are in no optimiser's list stay what they were."""
    simulation = toy(adapter, cohort=1.0).simulation(backend)
    before = {name: tensor.clone() for name, tensor in simulation.state.payload.items()}
    for _ in range(4):
        simulation.step()
    for name, tensor in simulation.state.payload.items():
        assert not torch.equal(tensor, before[name]), name


def test_every_codeword_in_use_is_trained() -> None:
    simulation = toy("rq", cohort=1.0).simulation()
    for _ in range(3):
        simulation.step()
    codebooks = simulation.state.payload["item.codebooks"]
    used = simulation.state.item.get_buffer("codes").unique()
    assert (codebooks[used] != 0).any(1).all()


def test_lora_stays_zero_until_it_is_trained() -> None:
    """A re-initialised B makes the 'pretrained' table noise."""
    base = random_base(15, 6)
    config = adapters.get("lora").config(rank=3)
    adapter = build("lora", config, ItemContext(base, seed=3))
    assert not adapter.get_parameter("B").any()
    adapter.apply(lambda module: None).to("cpu").train().eval()
    assert not copy.deepcopy(adapter).get_parameter("B").any()
    simulation = toy("lora", refresh_every=2).simulation()
    assert not simulation.state.payload["item.B"].any()
    assert torch.equal(simulation.item_vectors(), simulation.state.item.base)
    for number in range(1, 5):
        simulation.step()
        assert simulation.state.payload["item.B"].any()
        if number % 2 == 0:
            merged, _ = simulation.server.begin(simulation.state)
            assert not merged.payload["item.B"].any()
            assert merged.payload["item.A"].any()


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_local_vectors_are_in_no_upload(adapter: str) -> None:
    simulation = toy(adapter).simulation("sequential")
    model = simulation.replica.backbone
    sent = payload_parameters(model)
    assert set(sent) == {f"item.{name}" for name in model.item.payload()}
    assert not any("user" in name for name in sent)
    entry = simulation.step().entry
    assert entry.upload == entry.clients * Upload.size(4 * model.item.payload_values)


def test_a_client_round_changes_nothing_that_it_was_given() -> None:
    simulation = toy("lora").simulation("sequential")
    work, _ = simulation._work()
    assert work.message is not None
    before = simulation.population.state(3)
    local = {name: tensor.clone() for name, tensor in before.local.items()}
    held = {n: p.detach().clone() for n, p in simulation.replica.backbone.named_parameters()}
    one, after = client_round(work.replica, work.pipeline, before, work.message)
    assert not torch.equal(after.local["user"], before.local["user"])
    assert all(torch.equal(before.local[name], tensor) for name, tensor in local.items())
    for name, parameter in simulation.replica.backbone.named_parameters():
        assert torch.equal(parameter, held[name]), name
    again, _ = client_round(work.replica, work.pipeline, before, work.message)
    assert again.to_bytes() == one.to_bytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_clients_leave_the_servers_tensors_alone(backend: str) -> None:
    simulation = toy("lora").simulation(backend)
    simulation.step()
    before = everything(simulation)
    total = run_round(simulation)
    after = everything(simulation)
    assert all(torch.equal(before[n], after[n]) for n in before if not n.startswith("local"))
    assert any(change.any() for change in total.sum.values())
    assert all(p.grad is None for p in simulation.replica.backbone.parameters())


@pytest.mark.parametrize("backend", ["sequential", "vmap"])
def test_runs_repeat_bit_for_bit(backend: str) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(len(states))  # global seeds play no part
        simulation = toy("hash", "bpr", warmup_rounds=1, refresh_every=2, **GRADIENT)
        simulation = simulation.simulation(backend)
        for _ in range(4):
            simulation.step()
        states.append(everything(simulation))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
