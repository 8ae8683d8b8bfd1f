"""A replica follows the server by messages alone, bit for bit, and refuses what does not belong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedpeft.client import Replica
from fedpeft.client.state import NO_VERSION
from fedpeft.errors import InputError
from fedpeft.items.coded import pack_coded, unpack_coded
from fedpeft.protocol.encodings import CODECS
from fedpeft.protocol.messages import (
    Broadcast,
    Snapshot,
    Step,
    extend,
    first_lineage,
)
from fedpeft.protocol.wire import MessageError
from fedpeft.server import Server, ServerState
from fedpeft.simulation import Simulation
from fedpeft.testing.toy import random_base
from toys import ADAPTERS, toy

PEFT = ["lora", "hash", "senet", "rq"]
encodings = pytest.mark.parametrize("encoding", CODECS)


def states(simulation: Simulation, rounds: int) -> Iterator[ServerState]:
    """Run some rounds; yield the state of each, its merge done."""
    for _ in range(rounds):
        yield simulation.server.begin(simulation.state)[0]
        simulation.step()


def assert_follows(replica: Replica, state: ServerState) -> None:
    """The replica's base, subspace and origin are the server's, bit for bit."""
    assert (replica.version, replica.lineage) == (state.version, state.lineage)
    own, item = dict(replica.backbone.item.named_buffers()), dict(state.item.named_buffers())
    assert own.keys() == item.keys()
    assert all(torch.equal(own[name], item[name]) for name in item)


def fetch(replica: Replica, message: Snapshot | Step) -> None:
    """Take over a message as it arrives."""
    if isinstance(message, Snapshot):
        replica.install(Snapshot.from_bytes(message.to_bytes()))
    else:
        replica.follow(Step.from_bytes(message.to_bytes()))


@encodings
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("warmup", [0, 2])
def test_steps_lead_to_the_servers_base_bit_for_bit(
    adapter: str, warmup: int, encoding: str
) -> None:
    simulation = toy(adapter, warmup_rounds=warmup, refresh_every=2, encoding=encoding).simulation(
        "fused" if encoding == "float32" else "vmap"
    )
    replica = Replica(simulation.task)
    versions = []
    for state in states(simulation, 7):
        if state.version != replica.version or not versions:
            if state.steps:
                replica.follow(Step.from_bytes(state.steps[-1].to_bytes()))
            else:
                fetch(replica, state.first)
            versions.append(state.version)
        assert_follows(replica, state)
        message = Broadcast.from_bytes(simulation.server.broadcast(state)[0].to_bytes())
        received = replica.receive(message)
        expected = simulation.server.received(state)[0]
        assert received.keys() == expected.keys()
        assert all(torch.equal(received[name], expected[name]) for name in expected)
    assert versions == [0, 1, 2, 3]


@encodings
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_way_to_a_version_ends_at_the_same_base(adapter: str, encoding: str) -> None:
    """Whichever version a client held, what the server hands it is enough."""
    simulation = toy(adapter, refresh_every=1, encoding=encoding).simulation("vmap")
    known: dict[int | None, Replica] = {}
    for state in states(simulation, 5):
        for held in [None, *range(state.version)]:
            replica = Replica(simulation.task)
            if held is not None:  # a replica that stayed at that version
                old = known[held]
                replica.backbone.item = old.backbone.item
                replica.version, replica.lineage = old.version, old.lineage
            for message in simulation.server.catch_up(state, held):
                fetch(replica, message)
            replica.receive(simulation.server.broadcast(state)[0])  # begins where nothing is needed
            assert_follows(replica, state)
        known[state.version] = replica
        whole = Replica(simulation.task)
        fetch(whole, simulation.server.snapshot(state))
        assert_follows(whole, state)


@pytest.mark.parametrize("mode", ["peft", "compress"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_simulations_replica_follows_the_server(adapter: str, mode: str) -> None:
    """Versions of a table that needs no base have no bytes to tell them apart."""
    refresh = 2 if mode == "peft" else 0
    run = toy(adapter, mode=mode, warmup_rounds=1, refresh_every=refresh)
    simulation = run.simulation("sequential")
    for _ in range(4):
        simulation.step()
        assert_follows(simulation.replica, simulation.state)


def test_a_coded_base_is_the_servers_once_its_codes_are_read() -> None:
    simulation = toy("lora", refresh_every=1).simulation()
    rng = torch.Generator().manual_seed(0)
    codes = torch.randint(4, (15, 2), generator=rng)
    coded = pack_coded(codes, torch.randn(2, 4, 6, generator=rng))
    base = unpack_coded(coded, 15, 6)
    state = simulation.server.start(base, coded)
    assert state.first.coding == "codes"
    replica = Replica(simulation.task)
    fetch(replica, state.first)
    assert torch.equal(replica.backbone.item.base, base)
    after = simulation.server.begin(replace(state, round=1))[0]
    fetch(replica, after.steps[0])
    assert_follows(replica, after)


@pytest.fixture
def server() -> Server:
    return toy("hash", warmup_rounds=1, refresh_every=1).simulation().server


@pytest.fixture
def chain(server: Server) -> list[ServerState]:
    """States at versions 1, 2 and 3; the payload moves between them."""
    state, found = server.start(random_base(15, 6)), []
    for number in range(1, 4):
        moved = {n: t + 0.1 * number for n, t in state.payload.items()}
        state = server.begin(replace(state, round=number, payload=moved))[0]
        found.append(state)
    return found


@pytest.fixture
def replica(server: Server, chain: list[ServerState]) -> Replica:
    """A replica at version 1."""
    replica = Replica(server.task)
    replica.install(chain[0].first)
    return replica


def test_a_broadcast_of_another_version_or_origin_is_refused(
    server: Server, chain: list[ServerState], replica: Replica
) -> None:
    right = server.broadcast(chain[0])[0]
    assert replica.receive(right)
    with pytest.raises(MessageError, match="version 2 of the base, but version 1 is held"):
        replica.receive(server.broadcast(chain[1])[0])
    foreign = server.start(random_base(15, 6, seed=1))
    moved = {n: t + 1 for n, t in foreign.payload.items()}
    foreign = server.begin(replace(foreign, round=1, payload=moved))[0]
    assert foreign.version == replica.version
    with pytest.raises(MessageError, match="another origin"):
        replica.receive(server.broadcast(foreign)[0])
    with pytest.raises(MessageError, match="bytes"):
        replica.receive(replace(right, payload=b"123"))


def test_a_step_from_elsewhere_is_refused(chain: list[ServerState], replica: Replica) -> None:
    second, third = chain[2].steps
    with pytest.raises(MessageError, match="leads to version 3, but version 1 is held"):
        replica.follow(third)
    assert_follows(replica, chain[0])
    replica.follow(second)
    with pytest.raises(MessageError, match="leads to version 2, but version 2 is held"):
        replica.follow(second)
    replica.follow(third)
    assert_follows(replica, chain[2])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda step: replace(step, payload=step.payload[:-4]),
        lambda step: replace(step, payload=step.payload + bytes(4)),
        lambda step: replace(step, subspace=step.subspace[:-1]),
        lambda step: replace(step, subspace=b""),
    ],
)
def test_a_step_that_does_not_fit_changes_nothing(spoil, chain, replica) -> None:
    with pytest.raises(InputError):
        replica.follow(spoil(chain[1].steps[0]))
    assert_follows(replica, chain[0])


def test_a_step_with_other_bytes_leads_to_another_lineage(
    server: Server, chain: list[ServerState], replica: Replica
) -> None:
    step = chain[1].steps[0]
    replica.follow(replace(step, payload=bytes(4) + step.payload[4:]))
    assert replica.version == 2
    with pytest.raises(MessageError, match="another origin"):
        replica.receive(server.broadcast(chain[1])[0])


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("adapter", PEFT)
def test_a_first_snapshot_whose_lineage_is_not_that_of_its_bytes_is_refused(
    adapter: str, warmup: int
) -> None:
    """Whatever its base is coded as: nothing came before it."""
    simulation = toy(adapter, warmup_rounds=warmup, cohort=1.0).simulation()
    for _ in range(warmup + 1):
        simulation.step()
    first = simulation.state.first
    assert first.version == warmup
    flipped = bytes([first.base[0] ^ 1]) + first.base[1:]
    for wrong in (replace(first, base=flipped), replace(first, lineage=bytes(32))):
        replica = Replica(simulation.task)
        before = replica.backbone.item
        with pytest.raises(MessageError, match="lineage is not that of its bytes"):
            replica.install(wrong)
        assert (replica.version, replica.backbone.item) == (NO_VERSION, before)
    replica.install(first)
    assert_follows(replica, simulation.state)


@pytest.mark.parametrize("coding", ["float32", "broadcast", "codes"])
def test_a_snapshot_that_does_not_fit_changes_nothing(
    coding: str, chain: list[ServerState], replica: Replica
) -> None:
    first = chain[0].first
    base = np.zeros(7, "<f4").tobytes()
    wrong = Snapshot(1, coding, first_lineage(1, base, first.subspace), base, first.subspace)
    with pytest.raises(InputError):
        replica.install(wrong)
    assert_follows(replica, chain[0])


def test_a_lineage_tells_every_byte_of_the_way() -> None:
    start = first_lineage(0, b"ab", b"c")
    assert start != first_lineage(0, b"a", b"bc")  # where one part ends is part of it
    ways = {
        extend(origin, Step(version, payload, subspace))
        for origin in (start, first_lineage(0, b"", b""))
        for version, payload, subspace in ((1, b"x", b""), (1, b"", b"x"), (1, b"y", b""))
    }
    assert len(ways) == 6
