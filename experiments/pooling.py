"""Mean against SENet pooling of P-Hash, in every backbone: validation only, one thread.

    python experiments/pooling.py DATA_FOLDER [--rounds 300] [--seeds 3]

Writes ``experiments/results/pooling-NAME.json``.  Nothing of the data is in it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from fedpeft import RunOptions, build, configure, evaluate, prepare
from fedpeft.experiment.folder import commit
from fedpeft.files import write_json

BACKBONES = ("fedmf", "fedpergnn", "fedncf", "pfedrec")
METRICS = ("hr@10", "ndcg@10")


def validation(data: Path, backbone: str, pooling: str, rounds: int, seed: int) -> dict[str, Any]:
    """Return one run's metrics on validation, its payload, and its split."""
    config = configure(
        data=str(data),
        backbone=backbone,
        adapter="hash",
        loss="bpr",
        rounds=rounds,
        seed=seed,
        settings=[f"adapter.pooling={pooling}"],
    )
    prepared = prepare(config)
    options = RunOptions(seed=seed, device="cpu")
    simulation = build(config, prepared.split, prepared.items, options)
    for _ in range(rounds):
        simulation.step()
    scorer = simulation.scorer(prepared.split.before("validation"))
    report = evaluate(scorer, prepared.split, "validation")
    return {
        "backbone": backbone,
        "pooling": pooling,
        "payload_bytes": simulation.server.prices.upload,
        "split_fingerprint": prepared.split.fingerprint,
        **{metric: report.sampled[metric] for metric in METRICS},
    }


def main() -> None:
    """Run all cells and write their means and standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    code = commit()
    cells = []
    for backbone in BACKBONES:
        for pooling in ("mean", "senet"):
            runs = [
                validation(args.data, backbone, pooling, args.rounds, seed)
                for seed in range(args.seeds)
            ]
            cell = {key: runs[0][key] for key in ("backbone", "pooling", "payload_bytes")}
            for metric in METRICS:
                values = [run[metric] for run in runs]
                spread = stdev(values) if len(values) > 1 else 0.0
                cell[metric] = {"mean": mean(values), "std": spread, "values": values}
            cells.append(cell)
            print(cell)
    name = args.data.resolve().name
    write_json(
        Path(__file__).parent / "results" / f"pooling-{name}.json",
        {
            "command": f"python experiments/pooling.py {name} " + " ".join(sys.argv[2:]),
            "commit": code,
            "part": "validation",
            "split_fingerprint": runs[0]["split_fingerprint"],
            "rounds": args.rounds,
            "seeds": list(range(args.seeds)),
            "cells": cells,
        },
    )


if __name__ == "__main__":
    main()
