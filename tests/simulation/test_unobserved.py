"""One step on a loss over all items: no item table per client, and the same updates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.adapters.lora import LoRATable
from fedpeft.protocol.aggregate import Partial
from fedpeft.seeding import torch_rng
from fedpeft.simulation import unobserved
from fedpeft.simulation import vmap as stacked
from fedpeft.testing import Toy
from fedpeft.testing.toy import BPR, GRADIENT, LEAST_SQUARES
from toys import ADAM, ADAPTERS, SGD, toy

from .rounds import assert_rounded_alike, run_round
from .test_backends import many_buckets, splits

BACKBONES: dict[str, dict[str, Any]] = {
    "fedmf": {},
    "fedpergnn": {"items": 0.8, "expansion": {"every": 0}},
}
TRANSFORMS = ("float16", "int8", "clip")
SOLVE: dict[str, Any] = {}
STEPS: dict[str, Any] = {**GRADIENT, "local_optimizer": ADAM}


def run_of(adapter: str, backbone: str, mode: str, **training: Any) -> Toy:
    return replace(toy(adapter, "ials", mode, **training), backbone=(backbone, BACKBONES[backbone]))


def second_round(run: Toy, backend: str, sent_as: str) -> tuple[Partial, dict[str, torch.Tensor]]:
    """Return the sum of the second round's uploads, and the local tensors."""
    how = {"transforms": {"clip": {"norm": 0.05}}} if sent_as == "clip" else {"encoding": sent_as}
    simulation = run.with_training(**how, download_encoding="float32").simulation(backend)
    local = simulation.population.local
    if "neighbours" in local:
        local["neighbours"].normal_(std=0.1, generator=torch_rng(0, "neighbours"))
    simulation.step()
    return run_round(simulation), local


def assert_same(run: Toy, sent_as: str) -> None:
    """Raise unless both backends agree; a float32 whisker may make a value round the other way."""
    (loop, local), (fast, own) = (second_round(run, p, sent_as) for p in ("sequential", "vmap"))
    for name, tensor in local.items():
        torch.testing.assert_close(own[name], tensor, atol=2e-5, rtol=2e-4)
    assert_rounded_alike(loop, fast, 1e-5 if sent_as == "clip" else None)


@contextmanager
def no_table() -> Iterator[None]:
    """Make whoever copies a payload for each client fail."""
    with patch.object(stacked, "Payloads", side_effect=AssertionError("a client has a table")):
        yield


@pytest.mark.parametrize(
    ("adapter", "backbone", "mode", "sent_as"),
    [*itertools.product(ADAPTERS, BACKBONES, ["peft", "compress"], TRANSFORMS)],
)
def test_updates_are_those_of_the_loop(
    adapter: str, backbone: str, mode: str, sent_as: str
) -> None:
    with many_buckets(), nullcontext() if adapter == "senet" else no_table():
        assert_same(run_of(adapter, backbone, mode), sent_as)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("local", [STEPS, {**STEPS, "local_steps": 0}])
def test_local_parameters_may_move_by_gradient_or_not(backbone: str, local: dict[str, Any]) -> None:
    with no_table():
        assert_same(run_of("lora", backbone, "compress", **local), "clip")


@pytest.mark.parametrize(
    "other",
    [
        {"payload_steps": 2},
        {"payload_optimizer": ADAM},
        {**STEPS, "joint": True},
    ],
)
def test_other_steps_are_not_taken_this_way(other: dict[str, Any]) -> None:
    run = run_of("lora", "fedmf", "peft")
    assert unobserved.applies(run.simulation().problem)
    assert not unobserved.applies(run.with_training(**other).simulation().problem)
    assert not unobserved.applies(
        replace(run.with_training(**STEPS), loss=BPR).simulation().problem
    )


@pytest.mark.parametrize("sent_as", TRANSFORMS)
def test_an_adapter_need_not_declare_its_columns(sent_as: str) -> None:
    run = run_of("lora", "fedpergnn", "compress")
    declared, _ = second_round(run, "vmap", "clip")
    with patch.object(LoRATable, "columns", frozenset()):
        assert not unobserved.applies(run.simulation().problem)
        assert_same(run, sent_as)
        silent, _ = second_round(run, "vmap", "clip")
    for name, change in silent.sum.items():
        torch.testing.assert_close(declared.sum[name], change, atol=1e-6, rtol=1e-4)


@st.composite
def odd_runs(draw: st.DrawFn) -> Toy:
    """Draw a run over a few users, some without items, and 1 to 9 items."""
    adapter, config = draw(
        st.sampled_from(
            [
                ("full", {}),
                ("lora", {"rank": 7}),  # more than there are dimensions, and often items
                ("lora", {"rank": 1, "zero": "A"}),
                ("hash", {"rows": 3, "hashes": 3}),
                ("hash", {"rows": 1}),
                ("rq", {"levels": 3, "codes": 5}),
            ]
        )
    )
    backbone = draw(st.sampled_from([*BACKBONES]))
    training = {
        "rounds": 4,
        "cohort": draw(st.sampled_from([0.01, 0.5, 1.0])),
        "warmup_rounds": 0,
        "refresh_every": 0,
        "server_optimizer": SGD,
        **draw(st.sampled_from([SOLVE, STEPS])),
    }
    return Toy(
        split=draw(splits(spare=0)),
        adapter=(adapter, {**config, "mode": draw(st.sampled_from(["peft", "compress"]))}),
        backbone=(backbone, BACKBONES[backbone]),
        loss=LEAST_SQUARES,
        training=training,
        dim=draw(st.integers(1, 4)),
    )


@settings(max_examples=40, deadline=None)
@given(run=odd_runs(), small=st.booleans())
def test_odd_runs_agree(run: Toy, small: bool) -> None:
    with many_buckets() if small else nullcontext(), no_table():
        assert_same(run, "clip")
