"""A sweep folder with invented numbers, shaped like one that a sweep writes."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from .folders import FINGERPRINT, evaluation

STRATEGIES = {"Full": (0.42, 474_368.0), "P-LoRA": (0.415, 59_808.0), "P-Hash": (0.38, 65_536.0)}
NOISE = (-0.001, 0.0, 0.001)
"""What each seed adds to every strategy: paired differences do not see it."""
OWN = {"Full": (0.0, 0.0, 0.0), "P-LoRA": (0.004, -0.003, 0.004), "P-Hash": (0.0005, 0.0, 0.0)}
"""What each seed adds to one strategy."""
SETUPS = {"Full": ("full", 32, "float32"), "P-LoRA": ("lora", 32, "int8")}
SETUPS |= {"P-Hash": ("hash", 32, "int8"), "Full, int8": ("full", 32, "int8")}
"""Adapter, k and encoding."""


def write_sweep(
    folder: Path,
    *,
    axes: dict[str, list[str]] | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    missing: int = 0,
    compare: bool = True,
) -> Path:
    """Write a sweep of three strategies over further axes; the last rows are missing."""
    axes = {"data.source": ["toy"], "strategy": list(STRATEGIES), **(axes or {})}
    combinations = [dict(zip(axes, labels, strict=True)) for labels in product(*axes.values())]
    cells = [(labels, seed) for seed in seeds for labels in combinations]
    rows = []
    for number, (labels, seed) in enumerate(cells):
        name = f"runs/{number}"
        row: dict[str, Any] = {**labels, "seed": seed, "folder": name, "config": f"{number:016x}"}
        row["status"] = "done" if number < len(cells) - missing else "missing"
        row["reason"] = None
        if row["status"] == "done":
            row |= _figures(labels, seed)
            _write_metrics(folder / name, row)
        rows.append(row)
    facts = {
        "name": "toy-grid",
        "command": "fedpeft sweep toy-grid.toml",
        "axes": list(axes.items()),
        "searched": [],
        "seeds": list(seeds),
        "compare": {"axis": "strategy", "reference": "Full"} if compare else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(facts), encoding="utf-8")
    columns = dict.fromkeys(key for row in rows for key in row)
    table = [{key: row.get(key) for key in columns} for row in rows]
    pl.DataFrame(table, infer_schema_length=None).write_parquet(folder / "results.parquet")
    return folder


def _figures(labels: dict[str, str], seed: int) -> dict[str, Any]:
    ndcg, payload = STRATEGIES[labels["strategy"]]
    ndcg += NOISE[seed] + OWN[labels["strategy"]][seed]
    scores: dict[str, Any] = {}
    for part, less in (("validation", 0.0), ("test", 0.01)):
        for prefix, level in (("", ndcg), ("baseline.popularity.", 0.25)):
            scores[f"{prefix}{part}.sampled.ndcg@10"] = level - less
            scores[f"{prefix}{part}.sampled.hr@10"] = 1.6 * (level - less)
            scores[f"{prefix}{part}.full.ndcg@10"] = (level - less) / 10
    adapter, dim, encoding = SETUPS.get(labels["strategy"], ("lora", 32, "int8"))
    return scores | {
        "setup.backbone": labels.get("backbone", "fedmf"),
        "setup.adapter": adapter,
        "setup.dim": dim,
        "setup.encoding": encoding,
        "bytes.upload_per_client_round": payload,
        "bytes.download_per_client_round": payload,
        "bytes.total_per_client_mean": 100 * payload,
        "dataset.name": labels["data.source"],
        "dataset.users": 600,
        "dataset.items": 3706,
        "dataset.interactions": 90_000,
        "rounds": 300,
        "seconds": 12.5,
        "peak_memory": 5e8,
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "version": "fedpeft 0.1.0",
        "split": FINGERPRINT,
    }


def _write_metrics(folder: Path, row: dict[str, Any]) -> None:
    """Write a curve of five evaluations that ends where the row does."""
    last, total = row["validation.sampled.ndcg@10"], row["bytes.total_per_client_mean"]
    lines = [evaluation(60 * i, last - 0.02 * (5 - i), total * i / 5) for i in range(1, 6)]
    folder.mkdir(parents=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
