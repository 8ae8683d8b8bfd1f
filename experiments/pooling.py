"""Mean against SENet pooling of P-Hash, in every backbone: validation only, one thread.

    python experiments/pooling.py DATA_FOLDER [--rounds 300] [--seeds 3]

Writes ``experiments/results/pooling-NAME.json``, or ``--out``.  Nothing of the data is in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from fedpeft import RunOptions, build, configure, evaluate, prepare
from fedpeft.errors import InputError
from fedpeft.experiment.folder import commit
from fedpeft.files import write_json

RESULTS = Path(__file__).parent / "results"
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
        settings=[
            f"adapter.pooling={pooling}",
            "data.ties=file",  # as the committed file was made, and so the next
            "training.recency.half_life=5.0",
        ],
    )
    prepared = prepare(config)
    options = RunOptions(device="cpu")
    simulation = build(config, prepared.split, prepared.items, options)
    for _ in range(rounds):
        simulation.step()
    scorer = simulation.scorer(prepared.split.before("validation"))
    report = evaluate(scorer, prepared.split, "validation")
    return {
        "backbone": backbone,
        "pooling": pooling,
        "payload_bytes": simulation.bytes_summary()["upload_per_client_round"],
        "split_fingerprint": prepared.split.fingerprint,
        **{metric: report.sampled[metric] for metric in METRICS},
    }


def compared(data: Path, rounds: int, seeds: int) -> dict[str, Any]:
    """Return every cell's means and standard deviations, with how they were made."""
    code = commit()
    cells = []
    for backbone in BACKBONES:
        for pooling in ("mean", "senet"):
            runs = [validation(data, backbone, pooling, rounds, seed) for seed in range(seeds)]
            cell = {key: runs[0][key] for key in ("backbone", "pooling", "payload_bytes")}
            for metric in METRICS:
                values = [run[metric] for run in runs]
                spread = stdev(values) if len(values) > 1 else 0.0
                cell[metric] = {"mean": mean(values), "std": spread, "values": values}
            cells.append(cell)
            print(cell)
    name = data.resolve().name
    return {
        "command": f"python experiments/pooling.py {name} --rounds {rounds} --seeds {seeds}",
        "commit": code,
        "part": "validation",
        "split_fingerprint": runs[0]["split_fingerprint"],
        "rounds": rounds,
        "seeds": list(range(seeds)),
        "cells": cells,
    }


def main() -> None:
    """Run all cells and write what they reach."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of a data set")
    parser.add_argument("--rounds", type=int, default=300, help="of each run (default 300)")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if options.rounds < 1 or options.seeds < 1:
        parser.error("--rounds and --seeds must be 1 or more")
    torch.set_num_threads(1)
    try:
        found = compared(options.data, options.rounds, options.seeds)
    except InputError as error:
        parser.error(str(error))
    name = options.data.resolve().name
    write_json(options.out or RESULTS / f"pooling-{name}.json", found)


if __name__ == "__main__":
    main()
