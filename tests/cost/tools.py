"""Strategies and small runs that the tests of this folder share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fedpeft.adapters import AdapterConfig, ItemEmbedding, adapters
from fedpeft.backbones import Backbone, backbones
from fedpeft.config import parse
from fedpeft.cost import Scale, Strategy
from fedpeft.testing import Toy, hand_split
from fedpeft.testing.toy import BPR, GRADIENT, LEAST_SQUARES
from fedpeft.training import TrainingConfig

ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Full": ("full", {}),
    "LoRA": ("lora", {"rank": 3}),
    "Hash": ("hash", {"rows": 8, "hashes": 3}),
    "Hash-SENet": ("hash", {"rows": 8, "hashes": 5, "pooling": "senet"}),
    "RQ": ("rq", {"levels": 3, "codes": 5}),
}
BACKBONES = {
    "fedmf": {"loss": LEAST_SQUARES, "training": {}},
    "fedncf": {"loss": BPR, "training": GRADIENT},
    "pfedrec": {"loss": BPR, "training": GRADIENT},
    "fedpergnn": {"loss": LEAST_SQUARES, "training": {}},
}


def toy(adapter: str, backbone: str = "fedmf", mode: str = "peft", **training: Any) -> Toy:
    """Return a run over 12 users and 37 items, 8 rounds long, with all phases it can have."""
    kind, settings = ADAPTERS[adapter]
    phased = kind != "full" and mode == "peft"
    rows = [[(5 * user + step) % 37 for step in range(1 + user % 4)] for user in range(12)]
    return Toy(
        split=hand_split(rows, 37),
        adapter=(kind, {**settings, "mode": mode}),
        backbone=(backbone, {}),
        loss=BACKBONES[backbone]["loss"],  # type: ignore[arg-type]
        training={
            "rounds": 8,
            "cohort": 0.25,
            "warmup_rounds": 2 if phased else 0,
            "refresh_every": 2 if phased else 0,
            **BACKBONES[backbone]["training"],
            **training,
        },
        dim=6,
        seed=4,
    )


def second_order(adapter: str, backbone: str, **training: Any) -> Toy:
    """Return a run with a second-order server, without the phases that are not named."""
    phases = {"warmup_rounds": 0, "refresh_every": 0}
    newton = {"server_optimizer": {"kind": "newton", "lr": 0.3}, "frequency_decay": 0.1}
    run = toy(adapter, backbone, **{**phases, **newton, **training})
    kind, settings = run.adapter
    own = {"basis": "random"} if kind == "lora" else {}
    return replace(run, adapter=(kind, {**settings, **own}))


def strategy_of(run: Toy) -> Strategy:
    """Return what a toy run trains."""
    part = backbones.get(run.backbone[0])
    settings = parse(part.config, run.backbone[1], "backbone")

    def make_backbone(item: ItemEmbedding) -> Backbone:
        return part.build(settings, item)

    return Strategy(
        run.adapter[0],
        run.adapter[0],
        adapter_config(*run.adapter),
        parse(TrainingConfig, run.training, "training"),
        make_backbone,
    )


def scale_of(run: Toy, touched: int = 5) -> Scale:
    """Return a toy run's sizes."""
    return Scale(run.split.n_items, run.dim, run.split.n_users, touched, run.seed)


def adapter_config(kind: str, settings: Any) -> AdapterConfig:
    """Return an adapter's settings."""
    config = parse(adapters.get(kind).config, settings, "adapter")
    assert isinstance(config, AdapterConfig)
    return config


def names(scale: Scale, config: AdapterConfig) -> dict[str, int]:
    """Return the letters that formulas are written with."""
    found = {"n": scale.items, "k": scale.dim, "b": min(scale.touched, scale.items)}
    letters = {"rank": "r", "rows": "d", "codes": "d", "hashes": "h", "levels": "l"}
    for key, value in config.model_dump().items():
        if key in letters:
            found[letters[key]] = value
    if "h" in found:
        found["s"] = max(1, found["h"] // 2)
    return found
