"""The fast backends against the readable loop."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft import memory
from fedpeft.adapters import ItemEmbedding
from fedpeft.data import Split
from fedpeft.errors import ConfigError
from fedpeft.simulation.backend import choose
from fedpeft.testing import Toy, assert_backends_agree, hand_split
from fedpeft.testing.toy import GRADIENT, LEAST_SQUARES, PAPER
from fedpeft.transforms import UpdateTransform
from toys import ADAM, ADAPTERS, SGD, made_split, spread, toy

from .rounds import assert_rounded_alike, insert, run_round

SOFT = {"local_optimizer": ADAM}
STYLES: dict[str, dict[str, Any]] = {
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
GRID = [*((*case, style) for case in CASES for style in STYLES), *SOLVED]
QUICK = [*spread(CASES, [*STYLES]), *SOLVED]
"""Every adapter x mode x loss once, the styles taking turns; all of `GRID` is for slow tests."""


def phased(adapter: str, mode: str, loss: str, style: str) -> Toy:
    """Return a run with a warm-up, a merge, and what follows, where there is a base."""
    phases = {"warmup_rounds": 1, "refresh_every": 2} if mode == "peft" else {}
    return toy(adapter, loss, mode, **phases, **STYLES.get(style, {}))


@contextmanager
def many_buckets() -> Iterator[None]:
    """Make buckets so small that a cohort takes several."""
    limits = memory.Limits(most=600, worthwhile=0, cached=600, spread=1.5)
    with patch.dict(memory.LIMITS, cpu=limits):
        yield


@pytest.mark.parametrize(("adapter", "mode", "loss", "style"), QUICK)
def test_backends_agree(adapter: str, mode: str, loss: str, style: str) -> None:
    with many_buckets():
        assert_backends_agree(phased(adapter, mode, loss, style), rounds=5)


@pytest.mark.slow
@pytest.mark.parametrize(("adapter", "mode", "loss", "style"), GRID)
def test_backends_agree_everywhere(adapter: str, mode: str, loss: str, style: str) -> None:
    # no merge follows another: k-means may turn rounding into other codes for equal item vectors
    assert_backends_agree(phased(adapter, mode, loss, style), rounds=5)


@pytest.mark.parametrize("loss", ["bpr", "ials"])
def test_backends_agree_where_older_items_count_less(loss: str) -> None:
    training = STYLES["local-first"] if loss == "bpr" else {}
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
    style = draw(st.sampled_from([*STYLES, "solve"] if loss == "ials" else [*STYLES]))
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
        **STYLES.get(style, {}),
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
def test_backends_agree_on_odd_runs(run: Toy, small: bool) -> None:
    if small:
        with many_buckets():
            assert_backends_agree(run, rounds=3)
    else:
        assert_backends_agree(run, rounds=3)


@pytest.mark.parametrize("backend", ["sequential", "vmap", "fused"])
@pytest.mark.parametrize("loss", ["ials", "bpr"])
def test_nobody_at_all(backend: str, loss: str) -> None:
    training = STYLES["local-first"] if loss == "bpr" else {}
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
    training = {**STYLES["local-first"], "warmup_rounds": 0, "cohort": 1.0, "rounds": 4}
    for kind, config in ADAPTERS.values():
        run = Toy(split=split, adapter=(kind, config), loss=("bpr", {}), training=training, dim=3)
        assert_backends_agree(run.with_training(server_optimizer=ADAM, refresh_every=0), rounds=2)


@pytest.mark.parametrize("encoding", ["float16", "int8", "int4"])
@pytest.mark.parametrize("loss", ["bpr", "ials"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_backends_agree_through_an_encoding(adapter: str, loss: str, encoding: str) -> None:
    """Rounding turns a float32 whisker into a step where a value lies on the edge, but rarely."""
    training = STYLES["paper"] if loss == "bpr" else {}
    run = toy(adapter, loss, encoding=encoding, download_encoding="float32", **training)
    totals = []
    for backend in ("sequential", "vmap"):
        simulation = run.simulation(backend)
        simulation.state = replace(simulation.state, round=1)
        with many_buckets():
            totals.append(run_round(simulation))
    assert_rounded_alike(*totals)


def test_backend_is_chosen_by_what_the_settings_allow() -> None:
    ours, paper = (toy("lora", loss, **how) for loss, how in (("ials", {}), ("bpr", PAPER)))
    rounded = ours.with_training(encoding="int8")
    adaptive = ours.with_training(payload_optimizer={"kind": "adam", "lr": 1.0})
    several = ours.with_training(payload_steps=2)
    clipped = ours.with_training(transforms={"clip": {"norm": 1.0}})
    assert ours.simulation().backend == "fused"
    for run in (paper, rounded, adaptive, several, clipped):
        assert run.simulation().backend == "vmap"
        for asked in ("sequential", "vmap"):
            assert run.simulation(asked).backend == asked
        with pytest.raises(ConfigError, match="backend 'fused' cannot be used because"):
            run.simulation("fused")
    simulation = ours.simulation()
    with pytest.raises(ConfigError, match="backend 'loop' must be"):
        choose("loop", simulation.training, simulation.pipeline)  # type: ignore[arg-type]


class Scaled(UpdateTransform):
    """A transform that notes when it is called."""

    dense = True

    def __init__(self, factor: float, shift: float, log: list[str]) -> None:
        self._factor, self._shift, self._log = factor, shift, log

    def begin(self, round_number: int, item: ItemEmbedding) -> None:
        self._log.append(f"begin x{self._factor}")

    def on_user(self, change: dict[str, Any], ids: torch.Tensor) -> dict[str, Any]:
        assert all(len(tensor) == len(ids) for tensor in change.values())
        self._log.append(f"user x{self._factor}")
        return {name: tensor * self._factor + self._shift for name, tensor in change.items()}


@pytest.mark.parametrize("backend", ["sequential", "vmap"])
def test_transforms_run_in_order_on_each_client(backend: str) -> None:
    log: list[str] = []
    plain = run_round(toy("lora").simulation(backend))
    simulation = insert(
        toy("lora").simulation(backend), Scaled(2.0, 1.0, log), Scaled(0.5, -3.0, log)
    )
    found = run_round(simulation)
    for name, change in plain.sum.items():  # (2 x + 1) / 2 - 3, of six clients
        torch.testing.assert_close(found.sum[name], change - 6 * 2.5, atol=1e-5, rtol=1e-4)
    assert log[:4] == ["begin x2.0", "begin x0.5", "user x2.0", "user x0.5"]


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
        users = simulation.population.local["user"].double().numpy()
        cohort = simulation.sampler.draw(0)
        expected = table.copy()
        for position, user in enumerate(cohort.rows):
            pairs = cohort.of(position)
            for liked, drawn in pairs:
                margin = (table[liked] - table[drawn]) @ users[user]
                slope = -1 / (1 + np.exp(margin)) / len(pairs)
                share = len(pairs) / 6
                expected[liked] -= 0.25 * share * slope * users[user]
                expected[drawn] += 0.25 * share * slope * users[user]
        simulation.step()
        np.testing.assert_allclose(simulation.item_vectors().numpy(), expected, atol=1e-6)


def weighted(run: Toy) -> Toy:
    """Return the same run on histories whose items count more or less."""
    train = run.split.train
    weights = np.random.default_rng(0).uniform(0.1, 3, len(train.items)).astype(np.float32)
    return replace(run, split=replace(run.split, train=replace(train, weights=weights)))


@pytest.mark.parametrize(("loss", "training"), [("ials", {}), ("bpr", GRADIENT), ("bce", PAPER)])
def test_weights_of_items_count_alike_in_every_backend(loss: str, training: dict[str, Any]) -> None:
    run = toy("lora", loss, **{**training, **(SOFT if training else {})})
    assert_backends_agree(weighted(run))
    assert_backends_agree(weighted(run.with_training(recency={"half_life": 2.0, "floor": 0.1})))


def test_items_of_little_weight_move_little() -> None:
    run = toy("full", "ials")

    def moved(weight: float) -> float:
        train = run.split.train
        weights = np.full(len(train.items), weight, np.float32)
        light = replace(run, split=replace(run.split, train=replace(train, weights=weights)))
        upload = light.simulation().upload_of(0)
        return float(np.linalg.norm(np.frombuffer(upload.payload, "<f4")))

    assert 0 < moved(1e-3) < moved(1.0) / 10
