"""A GPU computes what the CPU computes: every backbone, adapter and way to train."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedpeft.evaluation import evaluate
from fedpeft.simulation import Simulation, checkpoint
from fedpeft.testing import Toy, block_split
from fedpeft.testing.toy import GRADIENT, PAPER
from toys import ADAM, ADAPTERS, everything, toy

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

BACKBONES: dict[str, dict[str, Any]] = {
    "fedmf": {},
    "fedncf": {"hidden": [7, 5]},
    "pfedrec": {"hidden": [7, 5]},
    "fedpergnn": {},
}
STYLES: dict[str, tuple[str, dict[str, Any]]] = {
    "solve": ("ials", {"server_schedule": "cosine"}),
    "solve, narrow": ("ials", {"encoding": "float16", "download_encoding": "int8"}),
    "local-first": ("softmax", {**GRADIENT, "local_optimizer": ADAM, "item_decay": 1e-3}),
    "paper": ("bpr", {**PAPER, "local_optimizer": ADAM, "payload_optimizer": ADAM}),
    "personalise": ("bce", {**GRADIENT, "local_optimizer": ADAM, "inference": "personalise"}),
}
CASES = [
    (backbone, adapter, style)
    for backbone, adapter, style in itertools.product(BACKBONES, ADAPTERS, STYLES)
    if "solve" not in style or backbone in ("fedmf", "fedpergnn")
]


def run_of(backbone: str, adapter: str, style: str) -> Toy:
    """Return a run through a warm-up and a merge."""
    loss, training = STYLES[style]
    run = toy(adapter, loss, warmup_rounds=1, refresh_every=2, **training)
    return replace(run, backbone=(backbone, BACKBONES[backbone]))


def rounds(simulation: Simulation, count: int) -> Simulation:
    """Run some rounds."""
    for _ in range(count):
        simulation.step()
    return simulation


@pytest.mark.parametrize(("backbone", "adapter", "style"), CASES)
def test_cuda_computes_what_the_cpu_does(backbone: str, adapter: str, style: str) -> None:
    run = run_of(backbone, adapter, style)
    count = 2 if "narrow" in style else 4  # rounding turns the last bit into another code
    here, there = (rounds(run.simulation(device=d), count) for d in ("cpu", "cuda"))
    for name, tensor in everything(here).items():
        if not name.startswith("feedback"):
            found = everything(there)[name]
            torch.testing.assert_close(found.cpu(), tensor, rtol=2e-3, atol=2e-3, msg=name)
    users = torch.arange(12)
    one, two = (s.scorer(run.split.train)(users).cpu() for s in (here, there))
    torch.testing.assert_close(two, one, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_run_on_cuda_resumes_from_its_checkpoint(adapter: str, tmp_path: Path) -> None:
    run = run_of("fedmf", adapter, "solve, narrow")
    whole = rounds(run.simulation(device="cuda"), 4)
    checkpoint.save(whole, tmp_path / "checkpoint.safetensors")
    for device in ("cuda", "cpu"):
        again = run.simulation(device=device)
        checkpoint.load(again, tmp_path / "checkpoint.safetensors")
        expected, found = everything(whole), everything(again)
        for name, tensor in expected.items():  # the item table is computed, on each device its way
            allowed = 1e-6 if name == "items" else 0
            torch.testing.assert_close(
                found[name].cpu(), tensor.cpu(), rtol=allowed, atol=allowed, msg=name
            )


def test_cuda_finds_the_known_answer() -> None:
    run = Toy(split=block_split(), training={"rounds": 60, "cohort": 0.5, "warmup_rounds": 0})
    simulation = rounds(run.simulation(device="cuda"), 60)
    report = evaluate(simulation.scorer(run.split.before("validation")), run.split)
    assert report.sampled["ndcg@10"] > 0.9
