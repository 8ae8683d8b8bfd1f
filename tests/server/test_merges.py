"""Merges: nobody notices them, every one opens another subspace, and anyone can do them again."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from fedpeft.adapters import ItemContext, adapters
from fedpeft.errors import ConfigError
from fedpeft.protocol.encodings import CODECS
from fedpeft.testing import Toy
from fedpeft.testing.toy import GRADIENT
from toys import ADAPTERS, SGD, toy

encodings = pytest.mark.parametrize("encoding", CODECS)


@encodings
@pytest.mark.parametrize("adapter", ["lora", "hash", "senet", "rq"])
def test_no_item_moves_at_a_merge(adapter: str, encoding: str) -> None:
    """Warm-up ends before round 2, merges come before rounds 4 and 6."""
    run = toy(adapter, warmup_rounds=2, refresh_every=2, encoding=encoding)
    simulation, events = run.simulation(), []
    for _ in range(7):
        before = simulation.item_vectors()
        simulation.state, event = simulation.server.begin(simulation.state)
        simulation.follow()
        assert torch.equal(simulation.item_vectors(), before)
        if event:
            assert torch.equal(simulation.state.item.base, before)
        events.append(event)
        assert simulation.step().entry.event == event
        assert not torch.equal(simulation.item_vectors(), before)
    assert events == [None, None, "warmup_end", None, "refresh", None, "refresh"]
    assert simulation.state.version == 3


@encodings
def test_a_client_can_do_the_merge_itself(encoding: str) -> None:
    """Old base + the merged payload as sent + the new subspace give what the server has."""
    simulation = toy("hash", refresh_every=3, encoding=encoding).simulation()
    for _ in range(3):
        simulation.step()
    old = simulation.state
    state, event = simulation.server.begin(old)
    assert event == "refresh"
    (step,) = state.steps
    shapes = {"table": torch.Size((8, 6))}
    payload = CODECS[encoding]().decode(step.payload, shapes)
    merged = old.item.merge(payload)
    frozen = old.item.config.unpack_subspace(step.subspace, 15)
    assert torch.equal(state.item.base, merged)
    assert torch.equal(state.item.get_buffer("coefficients"), frozen["coefficients"])
    mine = simulation.task.item(1, merged, frozen=frozen)
    for name, tensor in mine.named_parameters():
        assert torch.equal(state.payload[f"item.{name}"], tensor)


@pytest.mark.parametrize("adapter", ["lora", "hash", "rq"])
def test_every_refresh_opens_another_subspace(adapter: str) -> None:
    simulation = toy(adapter, refresh_every=1, rounds=4).simulation()
    seen = []
    for _ in range(4):
        simulation.step()
        state = simulation.state
        seen.append(state.payload["item.A"] if adapter == "lora" else state.first.subspace)
        if adapter != "lora" and state.steps:
            seen[-1] = state.steps[-1].subspace
    if adapter == "lora":
        assert all(not torch.equal(one, two) for one, two in pairwise(seen))
    else:
        assert all(one and one != two for one, two in pairwise(seen))


def test_another_seed_is_another_run() -> None:
    run = toy("lora")
    one, two = run.simulation(), replace(run, seed=1).simulation()
    assert not torch.equal(one.state.payload["item.A"], two.state.payload["item.A"])
    rows = [np.sort(simulation.sampler.draw(0).rows) for simulation in (one, two)]
    assert not np.array_equal(*rows)


def test_moments_and_residuals_start_anew_with_a_subspace() -> None:
    simulation = toy("lora", refresh_every=2, encoding="int8").simulation()
    for _ in range(2):
        simulation.step()
    assert simulation.state.residual
    assert {simulation.state.moments[f"item.{n}|step"].item() for n in "AB"} == {2}
    begun, _ = simulation.server.begin(simulation.state)
    assert not begun.residual
    assert not begun.moments
    simulation.step()
    assert {simulation.state.moments[f"item.{n}|step"].item() for n in "AB"} == {1}


@pytest.mark.parametrize("own", [None, SGD])
def test_moments_of_shared_tensors_live_on(own: dict | None) -> None:
    """Unless the optimiser of the warm-up was of another kind."""
    training = {**GRADIENT, "warmup_rounds": 2, "refresh_every": 2, "warmup_optimizer": own}
    run = replace(toy("lora", "bpr", **training), backbone=("fedncf", {"hidden": [7, 5]}))
    simulation = run.simulation()
    for number in range(5):
        before = simulation.state
        begun, event = simulation.server.begin(before)
        if event:
            kept = {n: t for n, t in before.moments.items() if n.startswith("mlp.")}
            assert begun.moments.keys() == kept.keys()
            assert bool(kept) == (own is None or event == "refresh")
            assert all(torch.equal(begun.moments[name], kept[name]) for name in kept)
            shared = [name for name in before.payload if name.startswith("mlp.")]
            assert shared
            assert all(torch.equal(begun.payload[n], before.payload[n]) for n in shared)
        assert (event is not None) == (number in (2, 4))
        simulation.step()


def test_adapter_without_a_warm_up_starts_on_the_given_base() -> None:
    state = toy("lora").simulation().state
    assert (state.phase, state.version) == ("adapt", 0)
    warm = toy("lora", warmup_rounds=1).simulation().state
    assert warm.phase == "warmup"
    assert warm.item.kind == "full"
    assert torch.equal(warm.payload["item.weight"], state.item.base)


def test_text_codes_reach_the_adapter_and_are_missed_when_absent() -> None:
    config = {"levels": 2, "codes": 4, "source": "text"}
    with pytest.raises(ConfigError, match="text"):
        Toy(adapter=("rq", config)).with_training(warmup_rounds=0, rounds=1).simulation()
    part = adapters.get("rq")
    codes = torch.arange(14).view(7, 2) % 4
    context = ItemContext(torch.zeros(7, 3), 0, lambda levels, size: codes)
    built = part.build(part.config(**config), context)
    assert torch.equal(built.get_buffer("codes"), codes + torch.tensor([0, 4]))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_merging_without_a_base_is_refused(adapter: str) -> None:
    """Every merge would throw away what was learned."""
    with pytest.raises(ConfigError, match=r"refresh_every = 3 .* 'compress'"):
        toy(adapter, mode="compress", refresh_every=3).simulation()
