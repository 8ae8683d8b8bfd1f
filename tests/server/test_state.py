"""A server's state: what goes in stays as it was, and what is saved comes back bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from fedpeft.errors import InputError
from fedpeft.protocol.aggregate import Partial
from fedpeft.protocol.encodings import CODECS
from fedpeft.server import Server, ServerState
from fedpeft.tensors import Tensors
from fedpeft.testing import Toy
from toys import ADAM, ADAPTERS, same, toy

EVENTS = [None, None, "warmup_end", None, "refresh", None, "refresh", None]
CPU = torch.device("cpu")
cases = pytest.mark.parametrize(
    ("adapter", "encoding"),
    [(adapter, "int8") for adapter in ADAPTERS]
    + [("lora", encoding) for encoding in CODECS if encoding != "int8"],
)


def run_of(adapter: str, encoding: str) -> Toy:
    """Return a run with a warm-up of two rounds and a merge every two."""
    training = {"server_optimizer": ADAM, "item_decay": 0.1, "server_schedule": "cosine"}
    return toy(adapter, warmup_rounds=2, refresh_every=2, encoding=encoding, **training)


def replies(state: ServerState) -> Partial:
    """Return a sum of changes that differ from round to round."""
    rng = torch.Generator().manual_seed(state.round)
    moved = {n: torch.randn(t.shape, generator=rng) for n, t in state.payload.items()}
    return Partial(moved, 3.0, 2, 0, 1.0)


def whole_round(server: Server, state: ServerState) -> tuple[bytes, ServerState]:
    """Return the bytes that a round sends out, and the state after it."""
    begun, _ = server.begin(state)
    message, sent = server.broadcast(begun)
    return message.to_bytes(), server.step(sent, replies(sent))


def copied(state: ServerState) -> tuple[Tensors, dict[str, Any]]:
    """Return copies of all that a state holds."""
    return {n: t.detach().clone() for n, t in state.to_tensors().items()}, state.to_dict()


def unchanged(state: ServerState, before: tuple[Tensors, dict[str, Any]]) -> bool:
    tensors, values = copied(state)
    return same(tensors, before[0]) and values == before[1]


def history(server: Server, start: ServerState) -> Iterator[ServerState]:
    """Yield every state of eight rounds: before, begun, broadcast, stepped."""
    state = start
    for _ in EVENTS:
        yield state
        begun, _ = server.begin(state)
        yield begun
        sent = server.broadcast(begun)[1]
        yield sent
        state = server.step(sent, replies(sent))
    yield state


def started(adapter: str, encoding: str) -> tuple[Server, ServerState]:
    simulation = run_of(adapter, encoding).simulation()
    return simulation.server, simulation.state


@cases
def test_nothing_that_a_server_is_handed_changes(adapter: str, encoding: str) -> None:
    server, state = started(adapter, encoding)
    kept = [(old, copied(old)) for old in history(server, state)]
    assert len(kept) == 3 * len(EVENTS) + 1
    assert all(unchanged(old, before) for old, before in kept)


@cases
def test_a_round_without_replies_is_run_again(adapter: str, encoding: str) -> None:
    """From the state before it, or from the one whose merge is done: the same bytes."""
    server, state = started(adapter, encoding)
    for event in EVENTS:
        begun, happened = server.begin(state)
        assert happened == event
        first, sent = server.broadcast(begun)
        for again in (state, begun):
            once_more, happened = server.begin(again)
            assert happened == event
            assert unchanged(once_more, copied(begun))
            message, after = server.broadcast(once_more)
            assert message.to_bytes() == first.to_bytes()
            assert unchanged(after, copied(sent))
        state = server.step(sent, replies(sent))
        again = server.step(sent, replies(sent))
        assert unchanged(again, copied(state))


@cases
def test_a_total_without_weight_changes_the_round_alone(adapter: str, encoding: str) -> None:
    server, state = started(adapter, encoding)
    for _ in range(3):
        state = whole_round(server, state)[1]
    sent = server.broadcast(server.begin(state)[0])[1]
    one = {name: torch.ones_like(tensor) for name, tensor in sent.payload.items()}
    bad = {name: torch.full_like(tensor, torch.nan) for name, tensor in one.items()}
    for total in (Partial.empty(one), Partial(one, 0.0, 3, 0, 0.0), Partial(bad, 1.0, 1, 0, 0.0)):
        after = server.step(sent, total)
        assert unchanged(replace(after, round=sent.round), copied(sent))
        assert after.round == sent.round + 1


def loaded(server: Server, state: ServerState) -> ServerState:
    """Return a state that went through JSON and copies of its tensors."""
    tensors, values = copied(state)
    return ServerState.load(server.task, json.loads(json.dumps(values)), tensors, CPU)


@cases
def test_a_state_comes_back_bit_for_bit_in_every_phase(adapter: str, encoding: str) -> None:
    server, state = started(adapter, encoding)
    phases = set()
    for old in history(server, state):
        back = loaded(server, old)
        assert unchanged(back, copied(old))
        for field in fields(ServerState):
            one, two = getattr(old, field.name), getattr(back, field.name)
            if isinstance(one, dict):
                assert same(one, two), field.name
                assert all(one[n].dtype == two[n].dtype for n in one)
            elif field.name != "item":
                assert one == two, field.name
        assert back.item.config == old.item.config
        assert all(parameter.numel() == 0 for parameter in back.item.parameters())
        phases.add((old.phase, len(old.steps), bool(old.residual), bool(old.moments)))
    assert {phase for phase, *_ in phases} == {"warmup", "adapt"}
    assert {steps for _, steps, *_ in phases} == {0, 1, 2}
    assert {residual for *_, residual, _ in phases} == {False, encoding in ("int8", "int4")}


@cases
def test_a_loaded_server_goes_on_as_the_one_that_was_saved(adapter: str, encoding: str) -> None:
    server, state = started(adapter, encoding)
    another = run_of(adapter, encoding).simulation().server
    for _ in EVENTS:
        message, after = whole_round(server, state)
        again, resumed = whole_round(another, loaded(another, state))
        assert again == message
        assert unchanged(resumed, copied(after))
        state = after


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {n: t for n, t in tensors.items() if n != name}


@pytest.mark.parametrize(
    "spoil",
    [
        without("payload/item.table"),
        without("frozen/coefficients"),
        without("message/0"),
        lambda tensors: {n: t for n, t in tensors.items() if not n.startswith("message/")},
        lambda tensors: tensors | {"base": tensors["base"][1:]},
        lambda tensors: tensors | {"base": tensors["base"] * torch.nan},
        lambda tensors: tensors | {"payload/item.table": tensors["payload/item.table"][1:]},
        lambda tensors: tensors | {"payload/item.more": torch.zeros(1)},
        lambda tensors: tensors | {"message/1": tensors["message/1"][:9]},
        lambda tensors: tensors | {"message/0": tensors["message/1"]},
    ],
)
def test_what_does_not_fit_is_refused(spoil: Callable[[Tensors], Tensors]) -> None:
    server, state = started("hash", "float32")
    for _ in range(5):
        state = whole_round(server, state)[1]
    tensors, values = copied(state)
    assert len(state.steps) == 1
    ServerState.load(server.task, values, dict(tensors), CPU)
    with pytest.raises(InputError):
        ServerState.load(server.task, values, spoil(tensors), CPU)
