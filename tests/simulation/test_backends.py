"""The fast backends against the readable loop."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft import memory
from fedpeft.data import Split
from fedpeft.errors import ConfigError
from fedpeft.protocol.encodings import Codec, Encoding, Float16, Int4, Int8
from fedpeft.simulation.backend import choose, run_round
from fedpeft.testing import Toy, assert_backends_agree, hand_split
from fedpeft.testing.toy import GRADIENT, LEAST_SQUARES, PAPER
from fedpeft.training import TrainingConfig
from toys import ADAM, ADAPTERS, SGD, made_split, spread, toy

SOFT = {"local_optimizer": ADAM}
RECIPES: dict[str, dict[str, Any]] = {
    "local-first": {**GRADIENT, **SOFT, "item_decay": 1e-3},
    "paper": {**PAPER, **SOFT, "payload_optimizer": ADAM},
    "several SGD steps": {
        **GRADIENT,
        **SOFT,
        "payload_steps": 3,
        "payload_optimizer": {"kind": "sgd", "lr": 0.3, "momentum": 0.5},
    },
}
CASES = [*itertools.product(ADAPTERS, ["peft", "compress"], ["bpr", "bce", "softmax", "ials"])]
SOLVED = [*itertools.product(ADAPTERS, ["peft", "compress"], ["ials"], ["solve"])]
GRID = [*((*case, recipe) for case in CASES for recipe in RECIPES), *SOLVED]
QUICK = [*spread(CASES, [*RECIPES]), *SOLVED]
"""Every adapter x mode x loss once, the recipes taking turns; all of `GRID` is for slow tests."""


def phased(adapter: str, mode: str, loss: str, recipe: str) -> Toy:
    """Return a run with a warm-up, a merge, and what follows, where there is a base."""
    phases = {"warmup_rounds": 1, "refresh_every": 2} if mode == "peft" else {}
    return toy(adapter, loss, mode, **phases, **RECIPES.get(recipe, {}))


@contextmanager
def many_buckets() -> Iterator[None]:
    """Make buckets so small that a cohort takes several."""
    limits = memory.Limits(most=600, worthwhile=0, cached=600, spread=1.5)
    with patch.dict(memory.LIMITS, cpu=limits):
        yield


@pytest.mark.parametrize(("adapter", "mode", "loss", "recipe"), QUICK)
def test_plans_agree(adapter: str, mode: str, loss: str, recipe: str) -> None:
    with many_buckets():
        assert_backends_agree(phased(adapter, mode, loss, recipe), rounds=5)


@pytest.mark.slow
@pytest.mark.parametrize(("adapter", "mode", "loss", "recipe"), GRID)
def test_plans_agree_everywhere(adapter: str, mode: str, loss: str, recipe: str) -> None:
    # no merge follows another: k-means may turn rounding into other codes for equal item vectors
    assert_backends_agree(phased(adapter, mode, loss, recipe), rounds=5)


@pytest.mark.parametrize("loss", ["bpr", "ials"])
def test_plans_agree_where_older_items_count_less(loss: str) -> None:
    training = RECIPES["local-first"] if loss == "bpr" else {}
    recency = {"half_life": 2.0, "floor": 0.1}
    assert_backends_agree(toy("lora", loss, recency=recency, **training))


@st.composite
def splits(draw: st.DrawFn, spare: int) -> Split:
    """Draw a few users' train histories, some empty, over a catalogue of 1 to 9 items.

    `spare` items of the catalogue are in no history of any one user.
    """
    n_items = draw(st.integers(1 + spare, 9))
    own = st.lists(st.integers(0, n_items - 1), unique=True, max_size=n_items - spare)
    return hand_split(draw(st.lists(own, min_size=1, max_size=5)), n_items)


@st.composite
def runs(draw: st.DrawFn) -> Toy:
    """Draw an odd little run."""
    loss = draw(st.sampled_from(["ials", "bpr", "bce", "softmax"]))
    recipe = draw(st.sampled_from([*RECIPES, "solve"] if loss == "ials" else [*RECIPES]))
    adapter = draw(
        st.sampled_from(
            [
                ("full", {}),
                ("lora", {"rank": 7}),  # more than there are dimensions, and often items
                ("hash", {"rows": 3, "hashes": 3}),
                ("hash", {"rows": 1}),
                ("hash", {"rows": 20, "pooling": "senet"}),
                ("rq", {"levels": 3, "codes": 5}),
            ]
        )
    )
    mode = draw(st.sampled_from(["peft", "compress"]))
    training = {
        "rounds": 4,
        "cohort": draw(st.sampled_from([0.01, 0.5, 1.0])),
        "warmup_rounds": 0,
        "refresh_every": 2 if mode == "peft" and adapter[0] != "rq" else 0,
        "recency": {"half_life": draw(st.sampled_from([1.0, 1e6]))},
        "server_optimizer": draw(st.sampled_from([ADAM, SGD])),
        **RECIPES.get(recipe, {}),
    }
    return Toy(
        split=draw(splits(spare=0 if loss == "ials" else 1)),
        adapter=(adapter[0], {**adapter[1], "mode": mode}),
        loss=LEAST_SQUARES if loss == "ials" else (loss, {}),
        training=training,
        dim=draw(st.integers(1, 4)),
    )


@settings(max_examples=40, deadline=None)
@given(run=runs(), small=st.booleans())
def test_plans_agree_on_odd_runs(run: Toy, small: bool) -> None:
    if small:
        with many_buckets():
            assert_backends_agree(run, rounds=3)
    else:
        assert_backends_agree(run, rounds=3)


@pytest.mark.parametrize("backend", ["sequential", "vmap", "fused"])
@pytest.mark.parametrize("loss", ["ials", "bpr"])
def test_nobody_at_all(backend: str, loss: str) -> None:
    training = RECIPES["local-first"] if loss == "bpr" else {}
    run = Toy(
        split=hand_split([], 4),
        loss=LEAST_SQUARES if loss == "ials" else (loss, {}),
        training={"rounds": 2, "warmup_rounds": 1, "refresh_every": 0, **training},
    )
    simulation = run.with_training(item_decay=0.0).simulation(backend)
    before = simulation.item_vectors()
    for _ in range(2):
        result = simulation.step()
    assert result.entry.clients == 0
    assert result.loss == 0
    assert result.entry.bytes_per_client == 0
    assert torch.equal(simulation.item_vectors(), before)


@pytest.mark.parametrize("backend", ["sequential", "vmap", "fused"])
def test_items_touched_by_nobody_do_not_move_without_a_catalogue_loss(backend: str) -> None:
    run = Toy(
        split=hand_split([[0, 1], [2], [1, 2]], 9),
        loss=("bpr", {}),
        training={**GRADIENT, "rounds": 1, "cohort": 1.0, "warmup_rounds": 0},
    )
    simulation = run.with_training(server_optimizer=SGD).simulation(backend)
    before = simulation.item_vectors()
    touched = set(simulation.sampler.draw(0).items.ravel().tolist())
    simulation.step()
    moved = (simulation.item_vectors() != before).any(1).nonzero().flatten().tolist()
    assert set(moved) == touched
    assert len(touched) < 9


def test_sparse_cohort_of_a_large_catalogue() -> None:
    """The fused backend leaves out items that nobody touches where they are many."""
    split = made_split([3, 1, 0, 5], 400)
    training = {**RECIPES["local-first"], "warmup_rounds": 0, "cohort": 1.0, "rounds": 4}
    for kind, config in ADAPTERS.values():
        run = Toy(split=split, adapter=(kind, config), loss=("bpr", {}), training=training, dim=3)
        assert_backends_agree(run.with_training(server_optimizer=ADAM, refresh_every=0), rounds=2)


@pytest.mark.parametrize("codec", [Float16(), Int8(), Int4()], ids=["float16", "int8", "int4"])
@pytest.mark.parametrize("loss", ["bpr", "ials"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_plans_agree_through_an_encoding(adapter: str, loss: str, codec: Codec) -> None:
    """Rounding turns a float32 whisker into a step where a value lies on the edge, but rarely."""
    outcomes = []
    for backend in ("sequential", "vmap"):
        training = RECIPES["paper"] if loss == "bpr" else {}
        simulation = toy(adapter, loss, **training).simulation(backend)
        transforms = [Encoding(codec, 12, seed=0)]
        for number in range(2):
            transforms[0].begin(number, simulation.server.item)
            cohort = simulation.sampler.draw(number)
            with many_buckets():
                update = run_round(
                    backend, simulation.problem, simulation.local, cohort, transforms
                )
        outcomes.append(update)
    loop, fast = outcomes
    assert abs(loop.loss - fast.loss) < 1e-5
    for name, change in loop.change.items():
        gap = (fast.change[name] - change).abs()
        size = float(change.abs().max())
        assert gap.max() <= 2 * size / 127
        assert (gap > 1e-5 * (size + 1e-3)).float().mean() < 0.05, name


def test_plan_is_chosen_by_what_the_settings_allow() -> None:
    ours = TrainingConfig()
    paper = TrainingConfig.model_validate(PAPER)
    transform = [Encoding(Int8(), 1, seed=0)]
    assert choose("auto", ours, []) == "fused"
    assert choose("auto", ours, transform) == "vmap"
    assert choose("auto", paper, []) == "vmap"
    for asked in ("sequential", "vmap"):
        assert choose(asked, paper, transform) == asked
    adaptive = {"kind": "adam", "lr": 1.0}
    for setting in ({"payload_steps": 2}, {"payload_optimizer": adaptive}):
        changed = TrainingConfig.model_validate(setting)
        assert choose("auto", changed, []) == "vmap"
        with pytest.raises(ConfigError, match="backend 'fused' cannot be used because"):
            choose("fused", changed, [])
    for training, transforms in ((paper, []), (ours, transform)):
        with pytest.raises(ConfigError, match="backend 'fused' cannot be used because"):
            choose("fused", training, transforms)


class Scaled:
    """A transform with two halves, which undo each other only in the right order."""

    def __init__(self, factor: float, shift: float, log: list[str]) -> None:
        self.dense = True
        self._factor, self._shift, self._log = factor, shift, log

    def on_user(self, change: dict[str, Any], users: torch.Tensor) -> dict[str, Any]:
        assert all(len(tensor) == len(users) for tensor in change.values())
        self._log.append(f"user x{self._factor}")
        return {name: tensor * self._factor + self._shift for name, tensor in change.items()}

    def on_mean(self, change: dict[str, Any], clients: int) -> dict[str, Any]:
        self._log.append(f"mean x{self._factor} of {clients}")
        return {name: (tensor - self._shift) / self._factor for name, tensor in change.items()}


@pytest.mark.parametrize("backend", ["sequential", "vmap"])
def test_transforms_run_in_order_on_clients_and_in_reverse_on_the_server(backend: str) -> None:
    run = toy("lora")
    changes = []
    log: list[str] = []
    for transforms in ([], [Scaled(2.0, 1.0, log), Scaled(0.5, -3.0, log)]):
        simulation = run.simulation(backend)
        cohort = simulation.sampler.draw(0)
        update = run_round(backend, simulation.problem, simulation.local, cohort, transforms)
        changes.append(update.change)
    for name, change in changes[0].items():
        torch.testing.assert_close(changes[1][name], change, atol=1e-5, rtol=1e-4)
    assert log[:2] == ["user x2.0", "user x0.5"]
    assert log[-2:] == ["mean x0.5 of 6", "mean x2.0 of 6"]
    assert sum(entry.startswith("mean") for entry in log) == 2


def test_fedavg_of_one_step_is_the_weighted_mean_gradient() -> None:
    """An independent float64 round of BPR on the full table, in NumPy."""
    rows = [[0, 3, 5], [1], [4, 2]]
    run = Toy(
        split=hand_split(rows, 6),
        loss=("bpr", {}),
        training={
            **GRADIENT,
            "local_steps": 0,
            "local_decay": 0.0,
            "rounds": 1,
            "cohort": 1.0,
            "warmup_rounds": 0,
            "server_optimizer": {"kind": "sgd", "lr": 1.0},
            "payload_optimizer": {"kind": "sgd", "lr": 0.25},
        },
        dim=4,
    )
    for backend in ("sequential", "vmap", "fused"):
        simulation = run.simulation(backend)
        table = simulation.item_vectors().double().numpy()
        users = simulation.local["user"].double().numpy()
        cohort = simulation.sampler.draw(0)
        expected = table.copy()
        for position, user in enumerate(cohort.users):
            pairs = cohort.of(position)
            for liked, drawn in pairs:
                margin = (table[liked] - table[drawn]) @ users[user]
                slope = -1 / (1 + np.exp(margin)) / len(pairs)
                share = len(pairs) / 6
                expected[liked] -= 0.25 * share * slope * users[user]
                expected[drawn] += 0.25 * share * slope * users[user]
        simulation.step()
        np.testing.assert_allclose(simulation.item_vectors().numpy(), expected, atol=1e-6)
