"""`fedpeft export`: what other programs read scores as the run does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from fedpeft.experiment import Recommender, reopen
from fedpeft.experiment.export import Scorer

from .tools import SMALL, fedpeft, tree

ALONE = """
import json, sys, torch
program = torch.export.load("scorer.pt2").module()
own = {name: torch.tensor(value) for name, value in json.load(sys.stdin).items()}
print(json.dumps(program(own, torch.arange(6)).tolist()))
assert not any(name.startswith("fedpeft") for name in sys.modules)
"""


def test_files(run: Path) -> None:
    before = tree(run)
    done = fedpeft("export", "run", "--json")
    assert done.code == 0, done.err
    folder = run / "export"
    assert {Path(name).name for name in json.loads(done.out)} == set(tree(folder)) == {
        "catalogue.parquet", "item_vectors.npy", "item_vectors.safetensors", "scorer.json",
        "scorer.pt2",
    }  # fmt: skip
    _, simulation = reopen(run)
    vectors = simulation.item_vectors()
    assert torch.equal(load_file(folder / "item_vectors.safetensors")["vectors"], vectors)
    assert np.array_equal(np.load(folder / "item_vectors.npy"), vectors.numpy())
    ids = Recommender(run).catalogue.ids
    assert pl.read_parquet(folder / "catalogue.parquet")["item"].to_list() == ids
    assert {name: value for name, value in tree(run).items() if "export" not in name} == before
    assert fedpeft("export", "run").code == 0  # again


def test_torch_alone_scores_as_the_run(run: Path) -> None:
    """A user's own vector and the file give the scores that `recommend` shows."""
    assert fedpeft("export", "run", "--out", "out").code == 0
    prepared, simulation = reopen(run)
    histories = prepared.dataset.histories
    scorer = simulation.scorer(histories)
    expected = scorer(torch.tensor([7]))[0][:6]
    own, _ = scorer._own(torch.tensor([7]))
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd="out",
        input=json.dumps({name: tensor[0].tolist() for name, tensor in own.items()}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("backbone", ["fedmf", "fedncf", "pfedrec", "fedpergnn"])
@pytest.mark.parametrize("adapter", ["full", "hash"])
def test_every_backbone(backbone: str, adapter: str, here: Path) -> None:
    """The scorer is the one-client module, and holds nothing of a client."""
    words = ("--backbone", backbone, "--adapter", adapter, "--rounds", "4", "--out", "new")
    small = [*SMALL, "--set", "evaluation.centralised_baseline=false"]
    assert fedpeft("run", *small, *words).code == 0
    done = fedpeft("export", "new")
    assert done.code == 0, done.err
    recommender = Recommender(here / "new")
    scorer = Scorer(recommender.backbone)
    about = json.loads((here / "new" / "export" / "scorer.json").read_text())
    assert set(about["own"]) == set(scorer.own)
    program = torch.export.load(here / "new" / "export" / "scorer.pt2")
    model, rng = recommender.backbone, torch.Generator().manual_seed(5)
    own, ids = scorer.example(rng, length=4), torch.tensor([3, 0, 79, 3])
    for name, tensor in own.items():
        if name in model.local:
            model.get_parameter(name).data = tensor
        else:
            setattr(model, name, tensor)
    assert torch.allclose(program.module()(own, ids), model.score(model.item(ids)), atol=1e-5)


def test_no_scorer_where_each_client_has_its_own(here: Path) -> None:
    words = ("--backbone", "pfedrec", "--preset", "paper", "--rounds", "4", "--out", "new")
    extra = ("--set", "training.inference=personalise")
    small = [*SMALL, "--set", "evaluation.centralised_baseline=false"]
    assert fedpeft("run", *small, *words, *extra).code == 0
    done = fedpeft("export", "new")
    assert done.code == 0, done.err
    assert "no scorer: " in done.err
    assert not list((here / "new" / "export").glob("scorer.*"))
