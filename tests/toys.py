"""Small runs that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from fedpeft.data import Split
from fedpeft.simulation import Simulation
from fedpeft.testing import Toy, hand_split
from fedpeft.testing.toy import LEAST_SQUARES

ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full", {}),
    "lora": ("lora", {"rank": 3}),
    "hash": ("hash", {"rows": 8}),
    "senet": ("hash", {"rows": 8, "hashes": 3, "pooling": "senet"}),
    "rq": ("rq", {"levels": 2, "codes": 4}),
}
ADAM: dict[str, Any] = {"kind": "adam", "lr": 0.02, "eps": 1e-3}
"""Adam that does not blow rounding up where gradients are tiny."""
SGD: dict[str, Any] = {"kind": "sgd", "lr": 0.5}


def spread(cases: Iterable[tuple[str, ...]], styles: Sequence[str]) -> list[tuple[str, ...]]:
    """Return each case with one of the styles, such that equal parts meet different styles."""
    n = len(styles)
    return [(*case, styles[(i + i // n) % n]) for i, case in enumerate(cases)]


def made_split(lengths: list[int], n_items: int, seed: int = 0) -> Split:
    """Return a split whose users have so many random train items each."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(n_items)[:length].tolist() for length in lengths]
    return hand_split(rows, n_items)


def toy(adapter: str = "full", loss: str = "ials", mode: str = "peft", **training: Any) -> Toy:
    """Return a run over 12 users of very different length and 15 items, 8 rounds long."""
    kind, config = ADAPTERS[adapter]
    settings = {
        "rounds": 8,
        "cohort": 0.5,
        "warmup_rounds": 0,
        "refresh_every": 0,
        "server_optimizer": ADAM,
        **training,
    }
    return Toy(
        split=made_split([1, 2, 14, 3, 0, 5, 9, 1, 7, 13, 4, 2], 15),
        adapter=(kind, {**config, "mode": mode}),
        loss=LEAST_SQUARES if loss == "ials" else (loss, {}),
        training=settings,
        dim=6,
    )


def everything(simulation: Simulation) -> dict[str, torch.Tensor]:
    """Return copies of all that a round changes."""
    state, population = simulation.state, simulation.population
    groups = {
        "payload": state.payload,
        "moments": state.moments,
        "feedback": state.residual,
        "buffer": dict(state.item.named_buffers()),
        "local": population.local,
    }
    return {
        **{
            f"{group}.{n}": t.detach().clone()
            for group, own in groups.items()
            for n, t in own.items()
        },
        "items": simulation.item_vectors().clone(),
        "held": torch.from_numpy(population.held.copy()),
    }


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    """Return whether two states are equal bit for bit."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
