"""FedNCF and PFedRec: the contract, and what is theirs alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedpeft.adapters import ItemContext, build
from fedpeft.adapters.full import FullConfig
from fedpeft.backbones.fedncf import FedNCF, FedNCFConfig
from fedpeft.backbones.mlp import MLP
from fedpeft.backbones.pfedrec import PFedRec, PFedRecConfig
from fedpeft.config import parse
from fedpeft.errors import ConfigError
from fedpeft.evaluation import LeakOracle
from fedpeft.evaluation.protocol import Holdout
from fedpeft.experiment import resolve
from fedpeft.protocol.messages import (
    Upload,
)
from fedpeft.seeding import torch_rng
from fedpeft.simulation import vmap as stacked
from fedpeft.simulation.checkpoint import load, save
from fedpeft.testing import BackboneContract, Toy, hand_split
from fedpeft.testing.toy import GRADIENT, random_base
from toys import everything, same


class TestFedNCF(BackboneContract):
    kind = "fedncf"
    config: ClassVar = {"hidden": [12, 6]}
    training: ClassVar = {"local_steps": 0, "joint": True}
    ndcg_floor = 0.75


class TestPFedRec(BackboneContract):
    kind = "pfedrec"
    config: ClassVar = {"hidden": [12, 6]}
    training: ClassVar = {"local_optimizer": {"kind": "adam", "lr": 0.03}}
    ndcg_floor = 0.65


def fedncf(k: int = 5, **config: object) -> FedNCF:
    """Return a client's FedNCF over 7 items, with random parameters everywhere."""
    item = build("full", FullConfig(), ItemContext(random_base(7, k), seed=0))
    model = FedNCF(FedNCFConfig.model_validate(config), item)
    rng = torch_rng(0, "test")
    for tensor in model.parameters():
        tensor.data = torch.randn(tensor.shape, generator=rng)
    return model


def test_fedncf_is_an_mlp_on_the_concatenation() -> None:
    model = fedncf()
    ids = torch.tensor([[0, 3], [6, 3], [2, 1]])
    vectors = model.item(ids)
    hidden = torch.cat([model.user.expand_as(vectors), vectors], dim=-1)
    weights, biases = list(model.mlp.weights), list(model.mlp.biases)
    for layer in range(2):
        hidden = F.relu(hidden @ weights[layer].T + biases[layer])
    expected = (hidden @ weights[2].T + biases[2]).squeeze(-1)
    torch.testing.assert_close(model(ids), expected, rtol=1e-5, atol=1e-4)


def test_layers_are_as_wide_as_in_the_papers() -> None:
    item = build("full", FullConfig(), ItemContext(random_base(7, 32), seed=0))
    ncf, pfr = FedNCF(FedNCFConfig(), item), PFedRec(PFedRecConfig(), item)
    assert [tuple(w.shape) for w in ncf.mlp.weights] == [(128, 64), (64, 128), (1, 64)]
    assert [tuple(w.shape) for w in pfr.mlp.weights] == [(64, 32), (32, 64), (1, 32)]
    assert set(ncf.shared()) == {n for n, _ in ncf.named_parameters() if n.startswith("mlp.")}
    assert not pfr.shared()


def test_start_values_are_he_uniform() -> None:
    mlp = MLP(50, [200, 100])
    drawn = mlp.draw(torch_rng(0, "test"))
    for layer, inputs in enumerate([50, 200, 100]):
        weight, bound = drawn[f"weights.{layer}"], math.sqrt(6 / inputs)
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)
        assert drawn[f"biases.{layer}"].abs().max() == 0


def test_shared_start_follows_the_seed_and_nothing_else() -> None:
    def start(seed: int) -> torch.Tensor:
        run = Toy(backbone=("fedncf", {}), loss=("bpr", {}), training=GRADIENT, seed=seed)
        return run.simulation().state.payload["mlp.weights.0"]

    torch.manual_seed(1)
    one = start(0)
    torch.manual_seed(2)
    assert torch.equal(start(0), one)
    assert not torch.equal(start(1), one)


def test_pfedrec_clients_start_alike_and_part() -> None:
    run = Toy(backbone=("pfedrec", {}), loss=("bpr", {}), training={**GRADIENT, "cohort": 1.0})
    simulation = run.simulation()
    weights = simulation.population.local["mlp.weights.0"]
    assert (weights == weights[0]).all()
    simulation.step()
    assert (weights != weights[0]).any(2).any(1)[1:].all()


@pytest.mark.parametrize("kind", ["fedncf", "pfedrec"])
@pytest.mark.parametrize("hidden", [[], [0], [4, -1], "wide"])
def test_bad_widths_are_refused(kind: str, hidden: object) -> None:
    config = FedNCFConfig if kind == "fedncf" else PFedRecConfig
    with pytest.raises(ConfigError, match=r"backbone\.hidden"):
        parse(config, {"hidden": hidden}, "backbone")


def test_the_mlp_travels_and_is_paid_for() -> None:
    run = Toy(backbone=("fedncf", {"hidden": [6, 4]}), loss=("bpr", {}), training=GRADIENT, dim=8)
    simulation = run.simulation()
    mlp = (16 * 6 + 6) + (6 * 4 + 4) + (4 + 1)
    before = {n: simulation.state.payload[n].clone() for n in simulation.replica.backbone.shared()}
    entry = simulation.step().entry
    assert entry.upload == entry.clients * Upload.size(4 * (40 * 8 + mlp))
    for name, tensor in before.items():
        # nothing pulls at the last bias: BPR compares scores of one client
        moved = not torch.equal(simulation.state.payload[name], tensor)
        assert moved == (name != "mlp.biases.2"), name


@pytest.mark.parametrize("part", ["validation", "test"])
def test_personalised_inference_may_draw_held_out_items(
    part: Holdout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device knows its history only: the leak oracle over what it draws stays at chance."""
    rng = np.random.default_rng(0)
    n_users, n_items = 150, 130
    order = [rng.permutation(n_items).tolist() for _ in range(n_users)]
    split = hand_split(
        [row[:20] for row in order],
        n_items,
        validation=[row[20] for row in order],
        test=[row[21] for row in order],
        negatives=[row[22:122] for row in order],
    )
    training = {**GRADIENT, "inference": "personalise", "warmup_rounds": 0, "refresh_every": 0}
    loss = ("bpr", {"negatives": 40})
    run = Toy(split=split, backbone=("pfedrec", {"hidden": [4]}), loss=loss, training=training)
    oracle = LeakOracle(n_users, n_items)
    spied = stacked.personal_scores

    def spy(problem, local, cohort):  # type: ignore[no-untyped-def]
        for position, user in enumerate(cohort.rows):
            drawn = cohort.of(position)[:, 1:]
            oracle.observe(np.full(drawn.shape, user), drawn)
        return spied(problem, local, cohort)

    monkeypatch.setattr("fedpeft.simulation.inference.personal_scores", spy)
    everyone = torch.arange(n_users)
    scores = run.simulation().scorer(split.before(part))(everyone)
    assert scores.shape == (n_users, n_items)
    audit = oracle.audit(split, part)
    assert abs(audit.hit_rate - audit.chance) < 4 * audit.standard_error


@pytest.mark.parametrize("kind", ["fedncf", "pfedrec"])
def test_presets_follow_the_backbone_and_yield_to_the_user(kind: str) -> None:
    ours = resolve({"backbone": {"kind": kind}})
    assert ours.loss.kind == "softmax"
    assert ours.training.local == "gradient"
    assert ours.training.local_steps == int(kind == "pfedrec")
    paper = resolve({"backbone": {"kind": kind}, "preset": "paper"}).training
    assert paper.local_optimizer.lr == paper.payload_optimizer.lr == 1e-3
    settings = {"local_steps": 4, "local_optimizer": {"lr": 0.5}}
    chosen = resolve({"backbone": {"kind": kind}, "training": settings}).training
    assert (chosen.local_steps, chosen.local_optimizer.lr) == (4, 0.5)


@pytest.mark.parametrize("kind", ["fedncf", "pfedrec"])
def test_least_squares_is_refused_in_one_sentence(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"choose loss\.kind softmax, bpr or bce"):
        Toy(backbone=(kind, {})).simulation()


@pytest.mark.parametrize("kind", ["fedncf", "pfedrec"])
def test_a_run_resumes_bit_for_bit(kind: str, tmp_path: Path) -> None:
    training = {**GRADIENT, "rounds": 6, "warmup_rounds": 1, "refresh_every": 2, "encoding": "int8"}
    run = Toy(adapter=("lora", {}), backbone=(kind, {}), loss=("bpr", {}), training=training)
    whole, first, second = run.simulation(), run.simulation(), run.simulation()
    for _ in range(6):
        whole.step()
    for _ in range(3):
        first.step()
    save(first, tmp_path / "checkpoint.safetensors")
    load(second, tmp_path / "checkpoint.safetensors")
    for _ in range(3):
        second.step()
    assert same(everything(second), everything(whole))
