"""MLP backbones: fast backends, and personalised inference, against the readable loop."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from fedpeft import memory
from fedpeft.client.local import train_client
from fedpeft.errors import ConfigError
from fedpeft.simulation.backend import Backend
from fedpeft.testing import Toy, assert_backends_agree
from fedpeft.testing.toy import GRADIENT, PAPER
from fedpeft.training import TrainingConfig
from toys import ADAM, ADAPTERS, SGD, everything, same, spread, toy

from .rounds import device, run_round
from .test_backends import many_buckets

BACKBONES: dict[str, dict[str, Any]] = {
    "fedncf": {"hidden": [7, 5]},
    "pfedrec": {"hidden": [7, 5]},
}
PRIVATE_FIRST: dict[str, Any] = {**GRADIENT, "local_optimizer": ADAM}
INVERSE: dict[str, Any] = {"local": "gradient", "local_schedule": "inverse"}
STYLES: dict[str, dict[str, Any]] = {
    "local-first": {**PRIVATE_FIRST, "item_decay": 1e-3},
    "together": {**PRIVATE_FIRST, "local_steps": 0, "joint": True},
    "local-first, then together": {**PRIVATE_FIRST, "joint": True},
    "paper": {**PAPER, "local_optimizer": ADAM, "payload_optimizer": ADAM},
}
CASES = [*itertools.product(BACKBONES, ADAPTERS, ["peft", "compress"], ["bpr", "bce", "softmax"])]
GRID = [(*case, style) for case in CASES for style in STYLES]


QUICK_SEED, GRID_SEED = 3, 1
"""Seeds with which no hidden unit stands on its kink, where rounding decides which way it goes."""


def run_of(
    backbone: str, adapter: str, mode: str, loss: str, style: str, seed: int = QUICK_SEED
) -> Toy:
    """Return a run through a warm-up, a merge, and what follows, where there is a base."""
    phases = {"warmup_rounds": 1, "refresh_every": 2} if mode == "peft" else {}
    found = toy(adapter, loss, mode, **phases, **STYLES[style])
    return replace(found, backbone=(backbone, BACKBONES[backbone]), seed=seed)


@pytest.mark.parametrize(("backbone", "adapter", "mode", "loss", "style"), spread(CASES, [*STYLES]))
def test_backends_agree(backbone: str, adapter: str, mode: str, loss: str, style: str) -> None:
    with many_buckets():
        assert_backends_agree(run_of(backbone, adapter, mode, loss, style), rounds=4)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "adapter", "mode", "loss", "style"), GRID)
def test_backends_agree_everywhere(
    backbone: str, adapter: str, mode: str, loss: str, style: str
) -> None:
    assert_backends_agree(run_of(backbone, adapter, mode, loss, style, GRID_SEED), rounds=5)


def test_moving_together_is_no_obstacle_to_the_fused_backend() -> None:
    run = run_of("fedncf", "full", "peft", "bpr", "together")
    assert run.simulation().backend == "fused"


@pytest.mark.parametrize("backbone", [*BACKBONES, "fedmf"])
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("style", ["several", "paper"])
def test_personalised_inference_is_what_each_client_would_do(
    backbone: str, adapter: str, style: str
) -> None:
    several = {"payload_steps": 3, "payload_optimizer": SGD, **PRIVATE_FIRST}
    training = {
        **(several if style == "several" else STYLES["paper"]),
        "inference": "personalise",
    }
    run = replace(toy(adapter, "bpr", **training), backbone=(backbone, BACKBONES.get(backbone, {})))
    simulation = run.simulation()
    simulation.step()
    before = everything(simulation)
    users = torch.tensor([7, 2, 9, 4, 0, 11])
    scorer = simulation.scorer(run.split.train)
    with many_buckets(), torch.inference_mode():
        scores = scorer(users)
    assert same(everything(simulation), before)

    cohort = scorer._sampler.each(users.numpy(), "inference", "negatives")  # type: ignore[attr-defined]
    for position, user in enumerate(cohort.rows):
        model = device(simulation, user)
        items = torch.from_numpy(cohort.of(position))
        weight = torch.from_numpy(cohort.weights(position, position + 1)[0])[: len(items)]
        train_client(simulation.task, model, items, weight, simulation.round)
        place = users.tolist().index(user)
        torch.testing.assert_close(scores[place], model(torch.arange(15)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", ["fedmf", "fedpergnn", "pfedrec"])
@pytest.mark.parametrize("inference", ["fit", "personalise"])
def test_scores_do_not_depend_on_who_else_is_scored(backbone: str, inference: str) -> None:
    run = toy("lora", "bpr", **{**PRIVATE_FIRST, "inference": inference})
    run = replace(run, backbone=(backbone, BACKBONES.get(backbone, {})))
    simulation = run.simulation()
    simulation.step()
    scorer = simulation.scorer(run.split.train)
    users = torch.tensor([7, 2, 9, 4, 0, 11])
    together = scorer(users)
    for row, user in zip(together, users, strict=True):
        torch.testing.assert_close(scorer(user.view(1))[0], row, rtol=1e-4, atol=1e-5)


def test_personalised_inference_uses_what_was_received() -> None:
    run = toy("lora", "bpr", encoding="float16", inference="stored", **PRIVATE_FIRST)
    run = replace(run, backbone=("fedncf", BACKBONES["fedncf"]))
    simulation = run.simulation()
    simulation.step()
    model = copy.deepcopy(simulation.replica.backbone)
    for name, tensor in simulation.state.payload.items():
        model.get_parameter(name).data = tensor.half().float()
    model.user.data.copy_(simulation.population.local["user"][3])
    scores = simulation.scorer(run.split.train)(torch.tensor([3]))[0]
    torch.testing.assert_close(scores, model(torch.arange(15)))


def test_buckets_shrink_with_the_width_of_the_backbone() -> None:
    narrow = replace(toy("full", "bpr", **PRIVATE_FIRST), backbone=("pfedrec", {"hidden": [2]}))
    wide = replace(narrow, backbone=("pfedrec", {"hidden": [2000, 10]}))
    widths = [run.simulation().replica.backbone.activations for run in (narrow, wide)]
    assert widths == [10, 4026]
    items = [memory.at_once(width, torch.device("cpu")) for width in widths]
    assert items == [memory.LIMITS["cpu"].most // (4 * width) for width in widths]
    assert memory.at_once(1 << 40, torch.device("cpu")) == 1


@pytest.mark.parametrize("backend", ["sequential", "vmap", "fused"])
@pytest.mark.parametrize("how", [{"local_steps": 1}, {"local_steps": 0, "joint": True}])
def test_inverse_schedule_halves_local_steps(backend: Backend, how: dict[str, Any]) -> None:
    settings = {**GRADIENT, **how, "local_optimizer": SGD}
    run = replace(toy("full", "bpr", **settings), backbone=("pfedrec", BACKBONES["pfedrec"]))
    moved = []
    for schedule in ({}, {**INVERSE, "local_halving": 40}):
        simulation = run.with_training(**schedule).simulation(backend)
        simulation.state = replace(simulation.state, round=40)
        before = {name: tensor.clone() for name, tensor in simulation.population.local.items()}
        run_round(simulation)
        moved.append({n: t - before[n] for n, t in simulation.population.local.items()})
    assert moved[0]["mlp.weights.0"].abs().max() > 1e-4
    for name, first in moved[0].items():
        torch.testing.assert_close(moved[1][name], first / 2, rtol=1e-3, atol=1e-6)


def test_rounds_and_scores_follow_the_schedule() -> None:
    run = toy("full", "bpr", **PRIVATE_FIRST | INVERSE, local_halving=100)
    simulation = run.simulation()
    rate = simulation.training.local_optimizer.lr
    for _ in range(2):
        simulation.step()
    assert simulation.problem.local_optimizer.lr == pytest.approx(rate / 1.01)
    simulation.state = replace(simulation.state, round=300)
    scorer = simulation.scorer(run.split.train)
    assert scorer._problem.local_optimizer.lr == pytest.approx(rate / 4)  # type: ignore[attr-defined]


def test_a_schedule_is_fitted_to_the_data() -> None:
    run = toy("full", "bpr", **PRIVATE_FIRST | INVERSE, cohort=0.1)
    simulation = run.simulation()
    met = len(run.split.train.items) / run.split.n_items
    halving = met**0.75 * 0.1 / simulation.training.cohort
    assert halving > 2
    assert simulation.training.local_halving == pytest.approx(halving)
    simulation.problem.begin(4)
    rate = simulation.training.local_optimizer.lr
    assert simulation.problem.local_optimizer.lr == pytest.approx(rate / (1 + 4 / halving))
    with pytest.raises(ConfigError, match="local_halving"):
        TrainingConfig(**INVERSE).local_optimizer_at(0)


def test_a_constant_rate_has_nothing_to_fit() -> None:
    training = TrainingConfig()
    assert training.local_optimizer_at(500) == training.local_optimizer


@pytest.mark.parametrize("most", [1 << 10, 1 << 19])
@pytest.mark.parametrize("cached", [1, 1 << 12, 1 << 19])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_catalogue_is_scored_as_each_client_would(
    backbone: str, cached: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one client at a time, several, all; some of the items, all
    limits = replace(memory.LIMITS["cpu"], cached=cached, most=most)
    monkeypatch.setitem(memory.LIMITS, "cpu", limits)
    run = run_of(backbone, "lora", "peft", "bpr", "together")
    simulation = run.simulation()
    simulation.step()
    users = torch.tensor([3, 0, 11, 7, 5])
    scores = simulation.scorer(run.split.train)(users)
    for user, row in zip(users, scores, strict=True):
        torch.testing.assert_close(row, device(simulation, int(user))(torch.arange(15)))


@pytest.mark.parametrize("most", [1 << 10, 1 << 19])
@pytest.mark.parametrize("inference", ["stored", "fit", "personalise"])
@pytest.mark.parametrize("backbone", [*BACKBONES, "fedmf", "fedpergnn"])
def test_listed_items_are_scored_as_in_the_catalogue(
    backbone: str, inference: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(memory.LIMITS, "cpu", replace(memory.LIMITS["cpu"], most=most))
    run = toy("lora", "bpr", inference=inference, **PRIVATE_FIRST)
    run = replace(run, backbone=(backbone, BACKBONES.get(backbone, {})))
    simulation = run.simulation()
    simulation.step()
    users = torch.tensor([3, 0, 11, 7, 5])
    items = torch.randint(15, (5, 4), generator=torch.Generator().manual_seed(0))
    scorer = simulation.scorer(run.split.train)
    torch.testing.assert_close(scorer.listed(users, items), scorer(users).gather(1, items))
    assert scorer.listed(users[:0], items[:0]).shape == (0, 4)
