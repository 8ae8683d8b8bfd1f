"""The headline figures: FedMF on a real data set, every adapter, several seeds.

    python experiments/headline.py DATA_FOLDER [--rounds 1000] [--seeds 3] [--jobs 2]

Every run is a run folder under ``runs/headline``; finished ones are kept, so the script goes on
where it was stopped.  At the end it writes ``experiments/results/headline-NAME.json`` (means and
standard deviations over the seeds, with command, commit, seeds and split fingerprint) and the same
as a Markdown table beside it.  Nothing of the data is in them.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from fedpeft.cli.console import LineWatcher
from fedpeft.experiment import Schedule, resolve, resume, start
from fedpeft.federation import RunOptions
from fedpeft.files import read_json, write_json, write_text

NO_RECENCY = {"recency": {"half_life": 0}}
FULL = {"adapter": {"kind": "full"}}
LORA = {"adapter": {"kind": "lora", "rank": 4}}
HASH = {"adapter": {"kind": "hash", "rows": 512, "hashes": 2}}
RQ = {"adapter": {"kind": "rq", "codes": 256, "levels": 4}}
ADAPTERS = {"Full": FULL, "P-LoRA r=4": LORA, "P-Hash 512 x 2": HASH, "P-RQ 256 x 4": RQ}

CELLS: dict[str, dict[str, Any]] = dict(ADAPTERS)
for name, tables in ADAPTERS.items():
    if name != "Full":
        CELLS[f"{name}, M = 0"] = {**tables, "training": {"refresh_every": 0}}
CELLS["Full, BPR"] = {**FULL, "loss": {"kind": "bpr"}}
for name, tables in ADAPTERS.items():
    CELLS[f"{name}, no recency"] = {**tables, "training": NO_RECENCY}
for name, more in (
    ("P-Hash 512 x 2, M = 50", {}),
    ("P-Hash 512 x 2, M = 50, no recency", NO_RECENCY),
):
    CELLS[name] = {**HASH, "training": {"refresh_every": 50, **more}}
CELLS["Full, BPR, no recency"] = {**CELLS["Full, BPR"], "training": NO_RECENCY}
CELLS["Full, paper recipe"] = {**FULL, "recipe": "paper"}


def run_cell(label: str, seed: int, data: Path, rounds: int, out: Path) -> dict[str, Any]:
    """Run one cell with one seed, or go on with it; return its result."""
    torch.set_num_threads(1)
    folder = out / f"{label}-s{seed}".replace(" ", "_").replace(",", "").replace("=", "")
    if (folder / "result.json").exists():
        found: dict[str, Any] = read_json(folder / "result.json")
        return found
    options, schedule = RunOptions(seed=seed, device="cpu"), Schedule()
    if (folder / "config.toml").exists():
        return resume(folder, options, LineWatcher(), schedule)
    tables = {**CELLS[label], "seed": seed, "data": {"source": str(data.resolve())}}
    tables["training"] = {**tables.get("training", {}), "rounds": rounds}
    return start(resolve(tables), folder, options, LineWatcher(), schedule)


def summary(label: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means and standard deviations over the seeds of one cell."""

    def over_seeds(*path: str) -> dict[str, float]:
        values = []
        for result in results:
            value: Any = result
            for key in path:
                value = value[key]
            values.append(value)
        return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0}

    metrics = ("hr@10", "ndcg@10", "mrr")
    return {
        "cell": label,
        "seeds": [result["seed"] for result in results],
        "commits": sorted({str(result["commit"]) for result in results}),
        "split_fingerprint": results[0]["split_fingerprint"],
        "config": {k: v for k, v in results[0]["config"].items() if k != "data"},
        **{
            part: {
                ranking: {m: over_seeds("metrics", part, ranking, m) for m in metrics}
                for ranking in ("sampled", "full")
            }
            for part in ("validation", "test")
        },
        "bytes": {key: over_seeds("bytes", key) for key in results[0]["bytes"]},
        "seconds": over_seeds("seconds"),
    }


def markdown(cells: list[dict[str, Any]], floors: dict[str, Any]) -> str:
    """Return the table of all cells, test part, mean ± standard deviation over the seeds."""

    def cell(value: dict[str, float]) -> str:
        return f"{value['mean']:.4f} ± {value['std']:.4f}"

    lines = [
        "| run | HR@10 | NDCG@10 | NDCG@10, full ranking | bytes per round, both ways "
        "| MB per client, whole run |",
        "|---|---|---|---|---|---|",
    ]
    for found in cells:
        test, size = found["test"], found["bytes"]
        payload = sum(size[f"{way}_per_client_round"]["mean"] for way in ("upload", "download"))
        lines.append(
            f"| {found['cell']} | {cell(test['sampled']['hr@10'])} "
            f"| {cell(test['sampled']['ndcg@10'])} | {cell(test['full']['ndcg@10'])} "
            f"| {payload:,.0f} | {size['total_per_client_mean']['mean'] / 1e6:.2f} |"
        )
    for name, floor in floors.items():
        sampled, full = floor["test"]["sampled"], floor["test"]["full"]
        lines.append(
            f"| floor: {name} | {sampled['hr@10']:.4f} | {sampled['ndcg@10']:.4f} "
            f"| {full['ndcg@10']:.4f} | - | - |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all cells and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/headline"))
    parser.add_argument("--only", nargs="*", default=list(CELLS), choices=list(CELLS))
    args = parser.parse_args()
    name = args.data.resolve().name
    found: dict[str, list[dict[str, Any]]] = {label: [] for label in args.only}
    with ProcessPoolExecutor(args.jobs) as pool:
        jobs = {
            pool.submit(run_cell, label, seed, args.data, args.rounds, args.out / name): label
            for seed in range(args.seeds)
            for label in args.only
        }
        for done in as_completed(jobs):
            found[jobs[done]].append(done.result())
    cells = [
        summary(label, sorted(results, key=lambda r: r["seed"])) for label, results in found.items()
    ]
    # with the recency weights of our recipe, and as plain as the cells without
    some = found[args.only[0]][0]
    plain = next((r for label, r in found.items() if "no recency" in label), None)
    floors = dict(some["floors"])
    if plain is not None:
        floors["centralised_mf, no recency"] = plain[0]["floors"]["centralised_mf"]
    target = Path(__file__).parent / "results" / f"headline-{name}"
    write_json(
        target.with_suffix(".json"),
        {
            "command": f"python experiments/headline.py {name} " + " ".join(sys.argv[2:]),
            "dataset": some["dataset"],
            "floors": floors,
            "cells": cells,
        },
    )
    write_text(target.with_suffix(".md"), markdown(cells, floors))


if __name__ == "__main__":
    main()
