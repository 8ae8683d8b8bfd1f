"""Rounds of every backbone in every backend, which are part of `make bench`, and evaluations."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import torch

import fedpeft
from fedpeft.evaluation import evaluate_sampled
from fedpeft.files import write_json
from fedpeft.simulation.backend import Backend
from machine import describe, load
from options import add_out, add_toy, refuse_toy_results
from timing import Run, interleave
from workload import Workload, data_name

RESULT = "backbones.json"
SLOWEST = 6
"""A round of a backbone should take at most so many times as long as FedMF's in its backend."""
ALL = ("fedmf", "fedncf", "pfedrec", "fedpergnn")
KINDS: dict[str, tuple[str, str, Backend, str, tuple[str, ...]]] = {
    "fused, BPR": ("bpr", "fedpeft", "fused", "float32", ALL),
    "vmap, BPR": ("bpr", "fedpeft", "vmap", "float32", ALL),
    "vmap, BPR as int8": ("bpr", "fedpeft", "vmap", "int8", ALL),
    "vmap, paper preset": ("bpr", "paper", "vmap", "float32", ALL),
    "fused, iALS": ("ials", "fedpeft", "fused", "float32", ("fedmf", "fedpergnn")),
}
"""Loss, preset, backend, encoding, backbones (iALS wants linear scores); each backbone has its own
settings."""


def measure_backbones(work: Workload, repetitions: int) -> dict[str, Any]:
    """Print and return how long rounds take in every backend, full table."""
    found: dict[str, Any] = {}
    for name, (loss, preset, backend, encoding, kinds) in KINDS.items():
        sent = (f"training.encoding={encoding}",)
        rounds = {
            kind: work.simulation(
                loss, preset=preset, backbone=kind, backend=backend, settings=sent
            ).step
            for kind in kinds
        }
        found[name] = compared(name, rounds, repetitions)
    return found


def measure_evaluations(work: Workload, repetitions: int) -> dict[str, Any]:
    """Print and return how long it takes to rank for all users, full table."""
    return {
        name: compared(
            name, {kind: evaluation(work, kind, lists=lists) for kind in ALL}, repetitions
        )
        for name, lists in (("the catalogue", False), ("sampled negatives only", True))
    }


def evaluation(work: Workload, kind: str, *, lists: bool) -> Run:
    """Return the ranking for all users, with local parameters as they are stored."""
    simulation = work.simulation("bpr", preset="paper", backbone=kind)
    simulation.step()

    def run() -> object:
        scorer = simulation.scorer(work.split.before("validation"))
        if lists:
            return evaluate_sampled(scorer.listed, work.split, "validation")
        return fedpeft.evaluate(scorer, work.split, "validation")

    return run


def compared(name: str, runs: Mapping[str, Run], repetitions: int) -> dict[str, Any]:
    """Print and return how often each backbone runs in a second, and the paired ratio to FedMF."""
    times = interleave(runs, repetitions, warmup=1)
    print(f"\nBackbones, {name} (load {load()})")
    print(f"  {'':12s} {'per second':>10s} {'median ms':>10s} {'cpu ms':>8s}  times FedMF (cpu)")
    found = {}
    for kind, time in times.items():
        ratio = time.cpu_ratio_to(times["fedmf"])
        print(f"  {kind:12s} {1e3 / time.ms:10.2f} {time.ms:10.1f} {time.cpu_ms:8.1f} {ratio:6.2f}")
        found[kind] = {
            "per_second": round(1e3 / time.ms, 3),
            "median_ms": round(time.ms, 2),
            "cpu_ms": round(time.cpu_ms, 2),
            "cpu_ratio": round(ratio, 3),
            "repetitions": repetitions,
            "load": load(),
        }
    return found


def main() -> None:
    """Measure the backbones alone, with one thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--save", action="store_true", help=f"write {RESULT} into --out")
    add_out(parser)
    add_toy(parser)
    options = parser.parse_args()
    if options.save and options.toy:
        refuse_toy_results(parser, options.out)
    torch.set_num_threads(1)
    about = describe(1)
    data = data_name(toy=options.toy)
    print(f"{about['cpu']}, one thread; {data}; commit {about['commit']}")
    work = Workload.read(toy=options.toy)
    found = {
        "backbones": measure_backbones(work, options.repetitions),
        "evaluation": measure_evaluations(work, -(-options.repetitions // 3)),
    }
    if options.save:
        write_json(options.out / RESULT, {"machine": about, "data": data, **found})


if __name__ == "__main__":
    main()
