"""Mistakes found in public federated code; none of them here."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from fedpeft.simulation.update import Update

from fedpeft.adapters import ItemContext, adapters, build
from fedpeft.protocol.encodings import Float32
from fedpeft.simulation.backend import run_round
from fedpeft.simulation.sequential import payload_of
from fedpeft.testing import Toy, hand_split
from fedpeft.testing.toy import GRADIENT, PAPER, random_base
from toys import ADAM, ADAPTERS, SGD, everything, toy

BACKENDS = ["sequential", "vmap", "fused"]
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


def one_round(run: Toy, backend: str, users: list[int]) -> tuple[Update, torch.Tensor]:
    """Run only the given clients; return the update and all local vectors."""
    simulation = run.simulation(backend)
    everyone = simulation.sampler.draw(0)
    keep = [position for position, user in enumerate(everyone.users) if user in users]
    cohort = replace(
        everyone,
        users=everyone.users[keep],
        lengths=everyone.lengths[keep],
        items=np.concatenate([everyone.of(position) for position in keep]),
    )
    update = run_round(backend, simulation.problem, simulation.local, cohort, [])
    return update, simulation.local["user"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_average_is_of_all_clients_and_not_the_last_ones(backend: str) -> None:
    """Uploads that are live references of one model make every 'average' the last client's."""
    run = three_clients()
    together, _ = one_round(run, backend, [0, 1, 2])
    alone = [one_round(run, backend, [user])[0].change["item.weight"] for user in range(3)]
    mean = sum(len(row) / 6 * change for row, change in zip(ROWS, alone, strict=True))
    torch.testing.assert_close(together.change["item.weight"], mean)
    for change in alone:
        assert not torch.allclose(together.change["item.weight"], change)


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
    start = simulation.local["user"].clone()
    cohort = simulation.sampler.draw(0)
    changes = []
    for _ in range(2):
        simulation.local["user"].copy_(start)
        changes.append(run_round(backend, simulation.problem, simulation.local, cohort, []).change)
    assert torch.equal(changes[0]["item.weight"], changes[1]["item.weight"])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("adapter", ["lora", "hash", "senet", "rq"])
def test_the_base_is_really_frozen(adapter: str, backend: str) -> None:
    """Assigning to `requires_grad_` freezes nothing; the 'frozen' table trains along."""
    simulation = toy(adapter).simulation(backend)
    assert simulation.server.item.base is not None
    before = simulation.server.item.base.clone()
    for _ in range(4):
        simulation.step()
    assert torch.equal(simulation.server.item.base, before)
    assert not torch.equal(simulation.item_vectors(), before)
    assert not any(name.endswith("base") for name in simulation.server.parameters())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_payload_tensor_is_trained(adapter: str, backend: str) -> None:
    """Codebooks that are in no optimiser's list stay what they were."""
    simulation = toy(adapter, cohort=1.0).simulation(backend)
    before = {name: t.detach().clone() for name, t in simulation.server.parameters().items()}
    for _ in range(4):
        simulation.step()
    for name, tensor in simulation.server.parameters().items():
        assert not torch.equal(tensor, before[name]), name


def test_every_codeword_in_use_is_trained() -> None:
    simulation = toy("rq", cohort=1.0).simulation()
    for _ in range(3):
        simulation.step()
    codebooks = simulation.server.item.get_parameter("codebooks")
    used = simulation.server.item.get_buffer("codes").unique()
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
    assert not simulation.server.item.get_parameter("B").any()
    assert torch.equal(simulation.item_vectors(), simulation.server.item.base)
    for number in range(1, 5):
        simulation.step()
        assert simulation.server.item.get_parameter("B").any()
        if number % 2 == 0:
            simulation.server.begin(number)
            assert not simulation.server.item.get_parameter("B").any()
            assert simulation.server.item.get_parameter("A").any()


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_local_vectors_are_in_no_payload(adapter: str) -> None:
    simulation = toy(adapter).simulation()
    simulation.step()
    model = simulation.server.backbone
    sent = payload_of(model)
    assert set(sent) == {f"item.{name}" for name in model.item.payload()}
    assert not any("user" in name for name in sent)
    assert len(Float32().encode(sent)) == 4 * model.item.payload_values
    assert simulation.server.prices.upload == 4 * model.item.payload_values


def test_uploads_are_no_live_references() -> None:
    model = toy("lora").simulation().server.backbone
    sent = payload_of(model)
    for tensor in sent.values():
        tensor.add_(1)
    assert not any(torch.equal(sent[n], p) for n, p in model.named_parameters() if n in sent)


@pytest.mark.parametrize("backend", BACKENDS)
def test_clients_leave_the_servers_tensors_alone(backend: str) -> None:
    simulation = toy("lora").simulation(backend)
    simulation.step()
    before = everything(simulation)
    cohort = simulation.sampler.draw(1)
    update = run_round(backend, simulation.problem, simulation.local, cohort, [])
    after = everything(simulation)
    assert all(torch.equal(before[n], after[n]) for n in before if not n.startswith("local"))
    assert any(change.any() for change in update.change.values())
    assert all(p.grad is None for p in simulation.server.backbone.parameters())


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
