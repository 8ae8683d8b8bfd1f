"""Small runs that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
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


NEWTON: dict[str, Any] = {
    "server_optimizer": {"kind": "newton", "lr": 0.7},
    "frequency_decay": 0.1,
    "local_decay": 0.01,
}
"""A second-order server, for the adapters of `LINEAR`."""
LINEAR: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ADAPTERS["full"],
    "lora": ("lora", {"rank": 2, "basis": "random"}),
    "wide lora": ("lora", {"rank": 9, "basis": "random"}),
    "hash": ADAPTERS["hash"],
    "rq": ADAPTERS["rq"],
}


def newton(adapter: str, **training: Any) -> Toy:
    """Return a small run with a second-order server, and merges where there is a base."""
    merges = {} if adapter == "full" else {"warmup_rounds": 1, "refresh_every": 2}
    return replace(toy(**{**NEWTON, **merges, **training}), adapter=LINEAR[adapter])


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
