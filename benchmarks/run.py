"""Speed and memory on MovieLens-1M: `make bench`.  Prints tables; `--save` keeps them as JSON."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import fedpeft
from backbones import SLOWEST, measure_backbones
from fedpeft.data.config import SplitConfig
from fedpeft.files import write_json
from handwritten import federated_round
from machine import describe, load
from options import add_out, add_toy, refuse_toy_results
from timing import Run, Times, interleave
from workload import Workload, data_config, data_name

HERE = Path(__file__).parent
RESULT = "speed.json"
F32, INT8 = ("training.encoding=float32",), ("training.encoding=int8",)


def rounds_of_full_table(work: Workload) -> dict[str, Run]:
    """Return one round of a tenth of all clients, full table, by backend and loss."""
    return {
        "fused, iALS": work.simulation("ials").step,
        "fused, BPR (3 local steps)": work.simulation("bpr").step,
        "vmap, paper preset (2 Adam steps)": work.simulation("bpr", preset="paper").step,
        "vmap, iALS as int8": work.simulation("ials", settings=INT8).step,
    }


def rounds_of_adapters(work: Workload) -> dict[str, Run]:
    """Return the same rounds for the small payloads."""
    runs: dict[str, Run] = {}
    for kind in ("lora", "hash", "rq"):
        runs[f"{kind}: fused, iALS"] = work.simulation("ials", adapter=kind, settings=F32).step
        runs[f"{kind}: fused, BPR"] = work.simulation("bpr", adapter=kind, settings=F32).step
        paper = work.simulation("bpr", adapter=kind, preset="paper")
        runs[f"{kind}: vmap, paper preset"] = paper.step
        for loss, name in (("ials", "iALS"), ("bpr", "BPR")):
            narrow = work.simulation(loss, adapter=kind, settings=INT8)
            runs[f"{kind}: vmap, {name} as int8"] = narrow.step
    return runs


def handwritten(work: Workload) -> Run:
    """Return a round of the hand-written baseline, on the cohorts and negatives of our own."""
    ours = work.simulation("bpr", preset="paper")
    table, users = ours.item_vectors(), ours.population.local["user"]
    rounds = iter(range(1 << 30))

    def step() -> torch.Tensor:
        cohort = ours.sampler.draw(next(rounds))
        pairs = [torch.from_numpy(cohort.of(i)) for i in range(len(cohort))]
        federated_round(table, users, list(zip(cohort.rows.tolist(), pairs, strict=True)))
        return table

    return step


def difference_to_handwritten(work: Workload) -> float:
    """Return the largest difference of an item vector after one round of both."""
    ours, theirs = work.simulation("bpr", preset="paper"), handwritten(work)
    ours.step()
    return float((ours.item_vectors() - theirs()).abs().max())  # type: ignore[operator]


def rounds_against_loops(work: Workload) -> dict[str, Run]:
    """Return full rounds of the fast backends and of loops over single clients."""
    slow = work.simulation("bpr", preset="paper", backend="sequential")
    return {
        "vmap, paper preset": work.simulation("bpr", preset="paper").step,
        "hand-written loop, paper preset": handwritten(work),
        "sequential, paper preset": slow.step,
        "fused, iALS": work.simulation("ials").step,
        "sequential, iALS": work.simulation("ials", backend="sequential").step,
    }


def evaluations(work: Workload) -> dict[str, Run]:
    """Return sampled and full ranking of all users, with how local parameters are had."""

    def ranking(loss: str, preset: str = "fedpeft") -> Run:
        simulation = work.simulation(loss, preset=preset)
        simulation.step()

        def run() -> object:
            scorer = simulation.scorer(work.split.before("validation"))
            return fedpeft.evaluate(scorer, work.split, "validation")

        return run

    return {
        "fitted (iALS, exact solve)": ranking("ials"),
        "fitted (BPR, 3 steps)": ranking("bpr"),
        "stored (paper preset)": ranking("bpr", "paper"),
    }


def reading(*, toy: bool) -> dict[str, Run]:
    """Return reading the files, and reading with splitting and evaluation negatives."""
    config = data_config(toy=toy)
    return {
        "read": lambda: fedpeft.load(config),
        "read and split": lambda: fedpeft.split(fedpeft.load(config), SplitConfig()),
    }


def table(title: str, times: dict[str, Times], against: str = "") -> dict[str, Any]:
    """Print a table and return it; ratios are paired with the variant `against`."""
    print(f"\n{title} (load {load()})")
    print(f"  {'':40s} {'median ms':>10s} {'best ms':>9s} {'cpu ms':>9s}  ratio")
    rows = {}
    for name, time in times.items():
        ratio = time.ratio_to(times[against]) if against else None
        shown = "" if ratio is None else f"{ratio:6.2f}"
        print(f"  {name:40s} {time.ms:10.1f} {time.best_ms:9.1f} {time.cpu_ms:9.1f} {shown}")
        rows[name] = {
            "median_ms": round(time.ms, 2),
            "best_ms": round(time.best_ms, 2),
            "cpu_ms": round(time.cpu_ms, 2),
            "ratio": None if ratio is None else round(ratio, 3),
            "repetitions": len(time.wall),
        }
    return {"against": against, "load": load(), "rows": rows}


def memory(adapter: str, *, toy: bool) -> dict[str, float]:
    """Return the peak memory of a complete run in a fresh process after each stage, megabytes."""
    command = [sys.executable, str(HERE / "memory.py"), adapter, *(["--toy"] if toy else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    stages: dict[str, int] = json.loads(done.stdout)
    return {stage: round(peak / 1e6) for stage, peak in stages.items()}


def targets(
    tables: dict[str, Any], backbones: dict[str, Any], peak: dict[str, float]
) -> dict[str, Any]:
    """Print and return the figures the project promises, with what was measured."""
    full, ranking = tables["full"]["rows"], tables["evaluation"]["rows"]
    fitted = ranking["fitted (iALS, exact solve)"]
    limits: dict[str, tuple[float, int]] = {
        "fused backend, iALS, ms a round": (full["fused, iALS"]["median_ms"], 40),
        "fused backend, BPR, ms a round": (full["fused, BPR (3 local steps)"]["median_ms"], 40),
        "vmap backend, paper preset, ms a round": (
            full["vmap, paper preset (2 Adam steps)"]["median_ms"],
            100,
        ),
        "evaluation of all users, ms": (fitted["median_ms"], 1000),
        "peak memory of a run, MB": (max(peak.values()), 2000),
    }
    for backend, rows in backbones.items():
        slowest = max(row["cpu_ratio"] for row in rows.values())
        limits[f"{backend}: slowest backbone, times FedMF"] = (slowest, SLOWEST)
    print("\nTargets")
    for name, (measured, limit) in limits.items():
        print(f"  {name:52s} {measured:10.1f}  <= {limit:5d}  {_verdict(measured, limit)}")
    return {name: {"measured": m, "limit": limit} for name, (m, limit) in limits.items()}


def _verdict(measured: float, limit: float) -> str:
    return "met" if measured <= limit else "MISSED"


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="computing threads (default 2)")
    parser.add_argument("--repetitions", type=int, default=15, help="turns of the short rounds")
    parser.add_argument("--save", action="store_true", help=f"write {RESULT} into --out")
    add_out(parser)
    add_toy(parser)
    options = parser.parse_args()
    if options.save and options.toy:
        refuse_toy_results(parser, options.out)
    torch.set_num_threads(options.threads)
    about = describe(options.threads)
    print(f"{about['cpu']}, {about['cores']} cores, {options.threads} threads, load {load()}")
    print(f"Python {about['python']}, torch {about['torch']}; commit {about['commit']}")
    data = data_name(toy=options.toy)
    print(f"Data: {data}; base embedding random, k = 32")
    if load() > 0.25 * (about["cores"] or 1):
        print("THE MACHINE IS BUSY: elapsed times are inflated, most of all with several threads")

    work = Workload.read(toy=options.toy)
    many, clients = options.repetitions, round(0.1 * work.split.n_users)
    gap = difference_to_handwritten(work)
    print(f"Backend vmap against the hand-written loop: item vectors differ by at most {gap:.1e}")
    tables = {
        "full": table(
            f"One round of {clients} clients, full table",
            interleave(rounds_of_full_table(work), many),
            "fused, iALS",
        ),
        "loops": table(
            f"The same against loops, one client after the other (all {clients} clients)",
            interleave(rounds_against_loops(work), 3, warmup=1),
            "vmap, paper preset",
        ),
        "adapters": table(
            f"One round of {clients} clients, adapters",
            interleave(rounds_of_adapters(work), max(3, many // 2)),
        ),
        "evaluation": table(
            f"Evaluation of {len(work.split.eval_users)} users, sampled and full ranking",
            interleave(evaluations(work), 5, warmup=1),
        ),
        "reading": table("Reading the data", interleave(reading(toy=options.toy), 5, warmup=1)),
    }
    backbones = measure_backbones(work, max(3, many // 2))
    peaks = {adapter: memory(adapter, toy=options.toy) for adapter in ("lora", "rq")}
    print("\nPeak memory of a complete run in a fresh process, after each stage, MB")
    for adapter, stages in peaks.items():
        print(f"  {adapter:6s}", "  ".join(f"{stage} {peak:.0f}" for stage, peak in stages.items()))
    at_the_end = {name: stages["evaluate"] for name, stages in peaks.items()}
    reached = targets(tables, backbones, at_the_end)
    if options.save:
        result = {
            "machine": about,
            "data": data,
            "tables": tables,
            "backbones": backbones,
            "difference_to_handwritten": gap,
            "peak_mb": peaks,
            "targets": reached,
        }
        write_json(options.out / RESULT, result)
        print(f"\nWrote {options.out / RESULT}")


if __name__ == "__main__":
    main()
