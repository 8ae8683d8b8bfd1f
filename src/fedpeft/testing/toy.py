"""Tiny data sets, one of them with a known answer, and simulations over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fedpeft.adapters import AdapterConfig, adapters
from fedpeft.backbones import backbones
from fedpeft.config import parse
from fedpeft.data import Histories, Split
from fedpeft.evaluation import evaluate
from fedpeft.files import fingerprint
from fedpeft.losses import losses
from fedpeft.seeding import numpy_rng, torch_rng
from fedpeft.simulation import RunOptions, Simulation
from fedpeft.training import TrainingConfig
from fedpeft.training.task import Task

Chosen: TypeAlias = tuple[str, Mapping[str, Any]]
"""A registered name and settings that differ from the part's defaults."""
LEAST_SQUARES: Chosen = ("ials", {"unobserved_weight": 0.2})
"""The loss with an exact local solution."""
BPR: Chosen = ("bpr", {})
GRADIENT: dict[str, Any] = {
    "local": "gradient",
    "local_steps": 3,
    "local_optimizer": {"kind": "adam", "lr": 0.1},
    "local_decay": 3e-4,
}
"""Local-first training for losses without an exact solution."""
PAPER: dict[str, Any] = {
    "local": "gradient",
    "local_optimizer": {"kind": "adam", "lr": 0.02},
    "local_decay": 0.0,
    "payload_steps": 2,
    "payload_optimizer": {"kind": "adam", "lr": 0.02},
    "joint": True,
    "server_optimizer": {"kind": "sgd", "lr": 1.0},
    "inference": "stored",
}
"""Federated averaging: every client takes two joint Adam steps on its own copy."""


def hand_split(
    rows: Sequence[Sequence[int]],
    n_items: int,
    *,
    validation: Sequence[int] | None = None,
    test: Sequence[int] | None = None,
    negatives: Sequence[Sequence[int]] | None = None,
) -> Split:
    """Return a split with the given train histories; what is not given is empty or item 0.

    Parameters
    ----------
    rows
        Each user's train items, oldest first.
    validation, test
        Each user's held-out items.
    negatives
        Each user's evaluation negatives, all of one length.
    """
    users = len(rows)
    indptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    items = np.array([item for row in rows for item in row], np.int64)
    held = [
        np.zeros(users, np.int64) if part is None else np.array(part, np.int64)
        for part in (validation, test)
    ]
    against = np.zeros((users, 0), np.int64) if negatives is None else np.array(negatives, np.int64)
    everyone = np.arange(users, dtype=np.int64)
    digest = fingerprint(str(n_items), indptr, items, *held, against)
    return Split(n_items, Histories(indptr, items), held[0], held[1], everyone, against, digest)


def block_split(blocks: int = 4, users: int = 12, items: int = 10, seen: int = 6) -> Split:
    """Return a split with a known answer: users like the items of their own block, and only those.

    Parameters
    ----------
    blocks
        Number of blocks.
    users, items
        Users and items per block.
    seen
        Train items per user, from the user's block; two more of it are held out.

    Notes
    -----
    The evaluation negatives are all items of the other blocks.  So a model that found the blocks
    ranks every held-out item first (NDCG@10 = 1), and one that did not ranks it at random.
    """
    rng = numpy_rng(0, "block split")
    rows, held, negatives = [], [], []
    for block in range(blocks):
        own = np.arange(items) + block * items
        others = np.setdiff1d(np.arange(blocks * items), own)
        for _ in range(users):
            chosen = rng.permutation(own)[: seen + 2].tolist()
            rows.append(chosen[:seen])
            held.append(chosen[seen:])
            negatives.append(others.tolist())
    return hand_split(
        rows,
        blocks * items,
        validation=[pair[0] for pair in held],
        test=[pair[1] for pair in held],
        negatives=negatives,
    )


def random_base(n: int, k: int, seed: int = 0) -> Tensor:
    """Return a base embedding that knows nothing, float32 of shape (n, k)."""
    return torch.randn(n, k, generator=torch_rng(seed, "toy base")) * 0.1


@dataclass(frozen=True)
class Toy:
    """A small federated run, by the registered names of its parts.

    Attributes
    ----------
    split
        Who has which items.
    adapter, backbone, loss
        Registered name and settings of each part.
    training
        Settings of the training; those left out are `TrainingConfig`'s own.
    dim
        k, values per item vector.
    """

    split: Split = field(default_factory=block_split)
    adapter: Chosen = ("full", {})
    backbone: Chosen = ("fedmf", {})
    loss: Chosen = LEAST_SQUARES
    training: Mapping[str, Any] = field(default_factory=dict)
    dim: int = 8
    seed: int = 0

    def with_training(self, **settings: Any) -> Toy:
        """Return the same run with some training settings changed."""
        return replace(self, training={**self.training, **settings})

    def task(self) -> Task:
        """Return what a run of the toy agrees on."""
        kind, settings = self.adapter
        config = parse(adapters.get(kind).config, settings, "adapter")
        assert isinstance(config, AdapterConfig)
        backbone, loss = backbones.get(self.backbone[0]), losses.get(self.loss[0])
        backbone_config = parse(backbone.config, self.backbone[1], "backbone")
        training = parse(TrainingConfig, self.training, "training")
        return Task(
            lambda item: backbone.build(backbone_config, item),
            loss.build(parse(loss.config, self.loss[1], "loss")),
            kind,
            config,
            training.resolved(self.split.statistics),
            self.split.n_items,
            self.dim,
            self.seed,
        )

    def simulation(self, backend: str = "auto", device: str = "cpu") -> Simulation:
        """Return a fresh simulation under a backend, on a device."""
        return Simulation(
            self.task(),
            self.split,
            random_base(self.split.n_items, self.dim, self.seed),
            RunOptions(device=device, backend=backend),  # type: ignore[arg-type]
        )


def quality(toy: Toy, rounds: int) -> float:
    """Return the NDCG@10 on the validation items against the split's negatives after training."""
    simulation = toy.simulation()
    for _ in range(rounds):
        simulation.step()
    report = evaluate(simulation.scorer(toy.split.before("validation")), toy.split, "validation")
    return report.sampled["ndcg@10"]
