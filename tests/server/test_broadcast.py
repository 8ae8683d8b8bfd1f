"""The broadcast: what clients decode of it, and what rounding lost of it is not lost for good."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.protocol.encodings import CODECS, Blocks
from fedpeft.server import Server, ServerState
from fedpeft.tensors import Tensors
from fedpeft.training.task import item_payload
from toys import ADAPTERS, toy

NARROW = ["int8", "int4"]
SIMULATIONS = {encoding: toy("full", encoding=encoding).simulation() for encoding in CODECS}


def began(encoding: str) -> tuple[Server, ServerState]:
    """Return the server of a full table of 90 values, and its first state."""
    simulation = SIMULATIONS[encoding]
    return simulation.server, simulation.state


def meaning(state: ServerState, message: torch.Tensor) -> ServerState:
    """Return a state whose next broadcast means some values."""
    return replace(state, payload={"item.weight": message})


def decoded(server: Server, state: ServerState) -> Tensors:
    """Return what the bytes of the round's broadcast hold."""
    shapes = {name: tensor.shape for name, tensor in state.payload.items()}
    payload = server.broadcast(state)[0].payload
    if not payload:  # stands for zeros
        return {name: torch.zeros(shape) for name, shape in shapes.items()}
    return server.task.broadcast_codec.decode(payload, shapes)


def equal(one: Tensors, two: Tensors) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_received_is_what_the_bytes_hold(adapter: str, encoding: str) -> None:
    """Round after round, with what was held back; both ways lead to the same state."""
    simulation = toy(adapter, warmup_rounds=2, encoding=encoding).simulation("vmap")
    for _ in range(4):
        state, _ = simulation.server.begin(simulation.state)
        received, after = simulation.server.received(state)
        assert equal(received, decoded(simulation.server, state))
        sent = simulation.server.broadcast(state)[1]
        assert equal(after.residual, sent.residual)
        assert bool(after.residual) == (encoding in NARROW)
        simulation.step()


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("adapter", ["full", "lora", "rq"])
@pytest.mark.parametrize("backend", ["auto", "sequential"])
def test_clients_train_on_what_arrived(backend: str, adapter: str, encoding: str) -> None:
    """The broadcast goes through the codec, and the server's own tensors stay as they are."""
    simulation = toy(adapter, encoding=encoding).simulation(backend)
    for _ in range(2):
        simulation.step()
    state, server = simulation.state, simulation.server
    before = {name: tensor.clone() for name, tensor in state.payload.items()}
    after = simulation._work()[1]
    held = {name: p.detach() for name, p in simulation.replica.backbone.named_parameters()}
    received = decoded(server, state)
    assert all(torch.equal(held[name], tensor) for name, tensor in received.items())
    assert equal(state.payload, before)
    assert after.payload is state.payload
    simulation.step()
    assert equal(state.payload, before)


@pytest.mark.parametrize("encoding", CODECS)
def test_devices_score_with_what_they_fetch_whenever_they_do(encoding: str) -> None:
    """Without what earlier broadcasts held back: nobody who was away has heard of it."""
    simulation = toy("lora", encoding=encoding).simulation()
    for _ in range(3):
        simulation.step()
    state, server = simulation.state, simulation.server
    final, codec = server.final(state), server.task.broadcast_codec
    shapes = {name: tensor.shape for name, tensor in state.payload.items()}
    assert equal(final, codec.decode(codec.encode(state.payload), shapes))
    assert equal(final, server.final(replace(state, residual={})))
    if encoding in NARROW:
        assert not equal(final, server.received(state)[0])
    vectors = state.item.merge(item_payload(final))
    assert torch.equal(simulation.item_vectors(), vectors)


@settings(deadline=None)
@given(seed=st.integers(0, 99), rounds=st.integers(1, 30), encoding=st.sampled_from(NARROW))
def test_error_feedback_keeps_the_sum(seed: int, rounds: int, encoding: str) -> None:
    """What was sent so far is what was meant so far, but for one message's rounding."""
    rng = torch.Generator().manual_seed(seed)
    server, state = began(encoding)
    meant, arrived = torch.zeros(15, 6), torch.zeros(15, 6)
    for _ in range(rounds):
        message = torch.randn(15, 6, generator=rng)
        meant += message
        received, state = server.received(meaning(state, message))
        arrived += received["item.weight"]
        held_back = state.residual["item.weight"]
        torch.testing.assert_close(arrived + held_back, meant, atol=1e-4, rtol=0)
    codec = server.task.broadcast_codec
    assert isinstance(codec, Blocks)
    # half a step of a 6-sigma block, twice
    assert float((arrived - meant).abs().max()) <= 6 / codec.most


def test_without_feedback_small_values_are_lost_for_good() -> None:
    """A value under half a step never arrives on its own; with feedback it does, in the mean."""
    server, state = began("int8")
    message = torch.zeros(15, 6)
    message[0, :2] = torch.tensor([127.0, 0.3])
    state = meaning(state, message)
    assert server.final(state)["item.weight"][0, 1] == 0
    total = 0.0
    for _ in range(100):
        received, state = server.received(state)
        total += float(received["item.weight"][0, 1])
    assert total == pytest.approx(30, abs=0.51)


@pytest.mark.parametrize("encoding", ["float32", "float16"])
def test_values_with_an_exponent_of_their_own_need_no_feedback(encoding: str) -> None:
    server, state = began(encoding)
    assert server.received(state)[1] is state
    assert server.broadcast(state)[1] is state


@pytest.mark.parametrize(("encoding", "bound"), [("float16", 0.2), ("int8", 0.2), ("int4", 0.5)])
def test_encoded_training_stays_close_to_exact_training(encoding: str, bound: float) -> None:
    vectors = {}
    for name in ("float32", encoding):
        simulation = toy("lora", encoding=name, cohort=1.0).simulation()
        for _ in range(8):
            simulation.step()
        vectors[name] = simulation.item_vectors()
    moved = (vectors["float32"] - simulation.state.item.base).norm()
    assert 0 < (vectors[encoding] - vectors["float32"]).norm() < bound * moved


def test_zeros_have_no_bytes_only_where_a_subspace_begins() -> None:
    """What training leaves may be zero on one backend and a rounding error on another."""
    simulation = toy("hash", refresh_every=3).simulation()
    sizes = []
    for _ in range(5):
        state, _ = simulation.server.begin(simulation.state)
        zeros = {name: torch.zeros_like(tensor) for name, tensor in state.payload.items()}
        sizes.append(len(simulation.server.broadcast(replace(state, payload=zeros))[0].payload))
        simulation.step()
    assert [size == 0 for size in sizes] == [True, False, False, True, False]
