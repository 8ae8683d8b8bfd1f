"""The small runs whose keys are walked, and the files that two of them read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedpeft.config import merge

SMALL: dict[str, Any] = {
    "preset": "fedpeft",
    "items": {"base": "svd", "dim": 4, "options": {"text_dim": 8, "sample": 40}},
    "evaluation": {"negatives": 5},
    "training": {
        "rounds": 5,
        "cohort": 0.5,
        "warmup_rounds": 2,
        "refresh_every": 2,
        "recency": {"half_life": 5.0},
    },
}
SPARSE: dict[str, Any] = {
    "data": {"synthetic": {"users": 20, "items": 640, "interactions_per_user": 7.0, "topics": 8}}
}
"""Sparse enough for `sparse_eps` to act."""
LESS: dict[str, Any] = {"training": {"warmup_rounds": 0, "refresh_every": 0}}
RQ = {"kind": "rq", "levels": 2, "codes": 4}
TEXTS = {"source": "texts", "interactions": "interactions.csv", "items_file": "items.csv"}

RUNS: dict[str, dict[str, Any]] = {
    "lora": {"training": {"transforms": {"clip": {"norm": 0.01}}}},
    "lora by gradient": {
        "loss": {"kind": "bpr"},
        "adapter": {"zero": "B"},
        "training": {
            "local": "gradient",
            "local_steps": 2,
            "local_schedule": "inverse",
            "payload_steps": 2,
            "payload_optimizer": {"kind": "adam", "lr": 0.01},
            "warmup_optimizer": {"kind": "sgd", "lr": 0.5},
        },
    },
    "lora with sgd": {
        "preset": "none",
        "loss": {"kind": "bce"},
        "adapter": {"mode": "compress"},
        "training": {
            "joint": True,
            "local": "gradient",
            "local_steps": 2,
            "local_optimizer": {"kind": "sgd"},
            "payload_steps": 2,
            "payload_optimizer": {"kind": "sgd"},
            "server_optimizer": {"kind": "sgd"},
            "warmup_rounds": 0,
            "refresh_every": 0,
        },
    },
    "newton": {
        "preset": "newton",
        "adapter": {"kind": "hash", "rows": 16},
        "training": {"server_optimizer": {"momentum": 0.5}},
    },
    "newton at the base": {
        "preset": "newton",
        "training": {"server_optimizer": {"prior_at": "base"}, "warmup_rounds": 0},
    },
    "full": {"adapter": {"kind": "full"}, "preset": "paper", **LESS},
    "full, as actions": {"preset": "fedras", **LESS},
    "full, alone": {"adapter": {"kind": "full", "mode": "compress"}, **LESS},
    "hash": {"adapter": {"kind": "hash", "rows": 16}},
    "hash, alone": {"adapter": {"kind": "hash", "rows": 16, "mode": "compress"}, **LESS},
    "rq": {"adapter": RQ},
    "rq, alone": {"adapter": {**RQ, "mode": "compress"}, **LESS},
    "rq of texts": {
        "adapter": {**RQ, "source": "text"},
        "items": {"hidden": [8], "rqvae": {"epochs": 3, "batch_size": 64}},
        "training": {"refresh_every": 0},
    },
    "autoencoder": {
        "items": {
            "base": "autoencoder",
            "hidden": [8],
            "autoencoder": {"epochs": 3, "batch_size": 64},
        }
    },
    "random base": {"items": {"base": "random"}},
    "coded base": {"items": {"base_codes": {"levels": 2, "codes": 4}}, **LESS},
    "fedncf": {"backbone": {"kind": "fedncf", "hidden": [4]}},
    "pfedrec": {"backbone": {"kind": "pfedrec", "hidden": [4]}},
    "fedpergnn": {"backbone": {"kind": "fedpergnn", "expansion": {"every": 1}}},
    "fedpergnn by gradient": {
        "backbone": {"kind": "fedpergnn", "expansion": {"every": 1}},
        "loss": {"kind": "softmax"},
    },
    "plain table": {
        "data": {"source": "plain", "empty_text": "keep", "unknown_items": "drop"},
    },
    "table": {
        "data": {
            **TEXTS,
            "min_rating": 2.0,
            "events": {"buy": 1.0, "view": 0.5},
            "empty_text": "keep",
            "unknown_items": "drop",
            "columns": {"rating": "rating", "event": "kind"},
        },
    },
    "table in its order": {
        "data": {
            **TEXTS,
            "order": "file",
            "empty_text": "keep",
            "unknown_items": "drop",
            "columns": {"position": "rating"},
        },
        "items": {"encoder": "array", "options": {"path": "vectors.npy", "ids": "ids.txt"}},
    },
}

OWN: dict[str, tuple[str, ...]] = {
    "lora": (),
    "lora by gradient": ("adapter", "loss", "training"),
    "lora with sgd": ("adapter", "loss", "training"),
    "newton": ("training",),
    "newton at the base": ("adapter", "training.server_optimizer"),
    "full": ("adapter", "training"),
    "full, as actions": ("training.actions", "training.upload", "training.encoding"),
    "rq of texts": ("adapter", "items"),
    "autoencoder": ("items",),
    "random base": ("items",),
    "coded base": ("items",),
    "fedncf": ("backbone", "training.inference", "training.joint"),
    "pfedrec": ("backbone", "training.inference"),
    "fedpergnn": ("backbone",),
    "fedpergnn by gradient": ("backbone", "loss"),
    "plain table": ("data.reader",),
    "table": ("data",),
    "table in its order": ("data", "items"),
}
"""The keys for which a run is there, by how they begin; none: all.  Of others: the adapter's."""


def tables(name: str) -> dict[str, Any]:
    """Return the settings of a run."""
    own = RUNS[name]
    small = merge(SMALL, {} if "source" in own.get("data", {}) else SPARSE)
    items = own.get("items", {})
    if items.get("encoder") or items.get("base") == "random":
        small["items"] = {key: value for key, value in small["items"].items() if key != "options"}
    return merge(small, own)


def write_files(folder: Path) -> None:
    """Write the data sets ``texts`` and ``plain``, and vectors for its items."""
    rng = np.random.default_rng(0)
    texts, plain = folder / "texts", folder / "plain"
    texts.mkdir()
    plain.mkdir()
    header = "user_id,item_id,timestamp,rating,session,kind,other"
    rows = []
    for user in range(12):
        for place, item in enumerate(rng.permutation(20)[: 5 + user % 4]):
            rating = (place * 7 + user) % 5 + 1 + place / 100
            more = f"s{user // 2},{('buy', 'view')[place % 2]},i{(item + 1) % 20}"
            rows.append(f"u{user},i{item},{100 - place // 2},{rating},{more}")
    rows.append("u0,unknown,1,5,s0,buy,unknown")
    words = ("kite", "moss", "lantern", "canal", "thief")
    items = [
        f"i{n},{words[n % 5]} {words[n % 3]},{words[n % 4]} {words[n % 2]},i{n}" for n in range(24)
    ]
    items[5] = "i5,,,"
    for ending, drop in ((".csv", 0), (".tsv", 3)):
        sign = "," if ending == ".csv" else "\t"
        events = "\n".join([header, *rows[drop:]]).replace(",", sign)
        (texts / f"interactions{ending}").write_text(events + "\n")
        table = "\n".join(["item_id,title,text,other", *items[drop:], *items[:drop]])
        (texts / f"items{ending}").write_text(table.replace(",", sign) + "\n")
    for name in ("interactions.csv", "items.csv"):
        (plain / name).write_bytes((texts / name).read_bytes())
    vectors = rng.normal(size=(24, 6)).astype(np.float32)
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "other.npy", vectors[:, ::-1])
    ids = [f"i{n}" for n in range(24)]
    (folder / "ids.txt").write_text("\n".join(ids) + "\n")
    (folder / "reversed.txt").write_text("\n".join(reversed(ids)) + "\n")
