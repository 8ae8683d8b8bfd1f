"""What clients fetch besides broadcasts: by the rule, and by the messages that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from fedpeft.protocol.encodings import CODECS
from fedpeft.protocol.messages import (
    Snapshot,
    Step,
)
from fedpeft.server import Server, ServerState
from fedpeft.server.catch_up import catch_up_bytes, download_bytes
from fedpeft.testing import Toy
from fedpeft.testing.toy import GRADIENT
from toys import ADAPTERS, toy


def paid(
    held: list[int], first: int, steps: list[int], current: int
) -> tuple[list[int], list[int]]:
    joining, behind = catch_up_bytes(np.array(held, np.int64), first, steps, current)
    return joining.tolist(), behind.tolist()


def test_newcomers_fetch_a_base_and_stragglers_the_merges_they_missed() -> None:
    assert paid([-1, -1], 103, [], 103) == ([103, 103], [0, 0])
    assert paid([0, -1], 103, [], 103) == ([0, 103], [0, 0])
    assert paid([0, 1, 2, 3], 103, [13, 13, 13], 103) == ([0, 0, 0, 0], [39, 26, 13, 0])


def test_the_base_is_fetched_where_it_is_smaller_than_what_was_missed() -> None:
    for missed, expected in ((1, 12), (2, 24), (3, 32), (4, 32)):
        assert paid([0], 32, [12] * missed, 32) == ([0], [expected])


def test_a_newcomer_starts_from_the_cheapest_table() -> None:
    """After a warm-up that is the narrow one of its end, until too much was merged since."""
    joining = [paid([-1], 52, [12] * merges, 102)[0][0] for merges in range(6)]
    assert joining == [52, 64, 76, 88, 100, 102]


def test_steps_of_different_lengths_are_each_counted() -> None:
    assert paid([0, 1, 2, -1], 1000, [9 + 5, 19 + 7], 1001) == ([0, 0, 0, 1001], [40, 26, 0, 0])


def test_nobody_fetches_nothing() -> None:
    assert paid([], 103, [13], 103) == ([], [])


def moved(run: Toy, rounds: int) -> Iterator[tuple[Server, ServerState]]:
    """Yield the server of a run with its state before each round; the payload moves in between."""
    simulation = run.simulation()
    server, state = simulation.server, simulation.state
    for number in range(rounds):
        payload = {name: tensor + 0.01 for name, tensor in state.payload.items()}
        state, _ = server.begin(replace(state, round=number, payload=payload))
        yield server, state


def length(messages: list[Snapshot | Step]) -> int:
    return sum(len(message.to_bytes()) for message in messages)


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("mode", ["peft", "compress"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_bytes_are_the_lengths_of_the_messages(
    adapter: str, mode: str, warmup: int, encoding: str
) -> None:
    refresh = 1 if mode == "peft" else 0
    run = toy(adapter, mode=mode, warmup_rounds=warmup, refresh_every=refresh, encoding=encoding)
    for server, state in moved(run, 6):
        versions = [-1, *range(state.version + 1)]
        sent = [length(server.catch_up(state, None if v < 0 else v)) for v in versions]
        for version, nbytes in zip(versions, sent, strict=True):
            first, missed = download_bytes(server, state, np.array([version], np.int64))
            joins = version < state.first.version  # the warm-up's table is no base to lead on from
            assert (first, missed) == ((nbytes, 0) if joins else (0, nbytes)), version
        assert sum(download_bytes(server, state, np.array(versions, np.int64))) == sum(sent)
        assert len(server.snapshot(state).to_bytes()) == server.snapshot_size(state)
    merges = {"peft": {0: 5, 2: 4}, "compress": {0: 0, 2: 1}}
    assert state.version == merges[mode][warmup]


def test_a_long_absence_ends_with_a_snapshot_and_a_short_one_with_steps() -> None:
    """LoRA's steps have 268 bytes here, the base has 360."""
    *_, (server, state) = moved(toy("lora", refresh_every=1), 4)
    assert state.version == 3
    kinds = {
        held: [type(message) for message in server.catch_up(state, held)]
        for held in (None, 0, 1, 2, 3)
    }
    assert kinds == {None: [Snapshot], 0: [Snapshot], 1: [Snapshot], 2: [Step], 3: []}
    assert server.catch_up(state, 2) == [state.steps[-1]]


@pytest.mark.parametrize("held", [0, 4, 99])
def test_a_version_that_no_step_leads_on_from_counts_as_none(held: int) -> None:
    """One of the warm-up, or one that this server never had."""
    *_, (server, state) = moved(toy("lora", warmup_rounds=1, refresh_every=1), 4)
    assert (state.first.version, state.version) == (1, 3)
    assert server.catch_up(state, held) == server.catch_up(state, None) != []


@pytest.mark.parametrize("mode", ["peft", "compress"])
def test_whoever_needs_no_base_fetches_none(mode: str) -> None:
    for adapter in ("full", "lora") if mode == "compress" else ("full",):
        simulation = toy(adapter, mode=mode).simulation()
        assert simulation.server.catch_up(simulation.state, None) == []


def test_who_was_away_needs_no_old_tensors_of_the_backbone() -> None:
    run = replace(
        toy("lora", "bpr", refresh_every=1, **GRADIENT), backbone=("fedncf", {"hidden": [7, 5]})
    )
    *_, (server, state) = moved(run, 2)
    (step,) = server.catch_up(state, 0)
    assert len(step.payload) == 4 * (15 * 3 + 3 * 6)
    assert sum(tensor.numel() for tensor in state.payload.values()) > 15 * 3 + 3 * 6
