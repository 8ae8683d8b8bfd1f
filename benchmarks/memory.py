"""Peak memory of one complete run in a process of its own; prints one line of JSON.

Read, split, pretrain the items (nothing cached), warm up, adapt with two merges, evaluate.
"""

from __future__ import annotations

import argparse
import json
from tempfile import TemporaryDirectory

from machine import peak_bytes
from options import add_toy

STAGES: dict[str, int] = {}


def mark(stage: str) -> None:
    """Note the peak so far."""
    STAGES[stage] = peak_bytes()


def main(adapter: str, *, toy: bool) -> None:
    """Run once with the given adapter."""
    from pathlib import Path

    from fedpeft import RunOptions, build, configure, evaluate, load, pretrain, split
    from workload import SEED, data_config

    mark("import")
    config = configure(
        adapter=adapter,
        rounds=50,
        seed=SEED,
        settings=["training.warmup_rounds=20", "training.refresh_every=10"],
    )
    dataset = load(data_config(toy=toy))
    parts = split(dataset, config.evaluation)
    mark("read")
    with TemporaryDirectory() as cache:
        items = pretrain(dataset.catalogue, config.items, cache=Path(cache))
        mark("pretrain")
        simulation = build(config, parts, items, RunOptions(device="cpu"), cache=Path(cache))
        for _ in range(config.training.rounds):
            simulation.step()
    mark("train")
    evaluate(simulation.scorer(parts.before("validation")), parts)
    mark("evaluate")
    print(json.dumps(STAGES))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapter", help="registered name of the adapter")
    add_toy(parser)
    options = parser.parse_args()
    main(options.adapter, toy=options.toy)
