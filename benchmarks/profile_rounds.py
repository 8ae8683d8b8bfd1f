"""What bounds a round: `python benchmarks/profile_rounds.py`, one thread, processor time.

Kernels are timed by torch's profiler and grouped; what they leave of an unprofiled round is Python,
NumPy (drawing cohort and negatives) and the dispatch of calls.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import torch
from torch.profiler import ProfilerActivity, profile

from fedpeft import Simulation
from machine import load
from options import add_toy
from workload import Workload, data_name

GROUPS = {
    "products": ("bmm", "mm", "addmm", "dot", "mv"),
    "gather": ("index_select", "index", "gather", "embedding"),
    "scatter": ("scatter_add_", "scatter_", "index_add_", "_index_put_impl_", "index_put_"),
    "solve": ("linalg_cholesky_ex", "_cholesky_solve_helper", "tril", "linalg_solve_triangular"),
    "Adam": ("_fused_adam_",),
    "sort": ("sort", "_unique2", "cumsum"),
    "fill, copy": ("fill_", "zero_", "copy_", "clone", "cat", "arange"),
}
OF_KERNEL = {f"aten::{name}": group for group, names in GROUPS.items() for name in names}
ELEMENTWISE = "elementwise"
"""All other kernels: add, mul, sum, softplus and the like."""
VIEWS = (
    "view", "as_strided", "expand", "unsqueeze", "squeeze", "select", "slice", "transpose", "t",
    "detach", "detach_", "empty", "empty_strided", "empty_like", "reshape", "_unsafe_view",
    "resize_", "narrow", "unbind", "alias", "flatten", "matmul", "item", "_local_scalar_dense",
    "permute", "ones_like", "zeros_like", "zeros", "new_zeros", "result_type", "to", "_to_copy",
)  # fmt: skip
NO_WORK = {f"aten::{name}" for name in VIEWS}
"""Calls that move no data: their time is dispatch."""


def breakdown(simulation: Simulation, repeats: int) -> tuple[float, Counter[str]]:
    """Return processor milliseconds of a round, and of its groups of kernels.

    The same round is repeated, and of every single call the shortest time counts: what other
    programs took from it is not the call's.
    """
    for _ in range(3):
        simulation.step()
    state = simulation.state
    plain: list[float] = []
    profiles: list[list[tuple[str, float]]] = []
    for _ in range(repeats):
        simulation.state = state
        start = time.process_time()
        simulation.step()
        plain.append(1e3 * (time.process_time() - start))
        simulation.state = state
        with profile(activities=[ProfilerActivity.CPU]) as record:
            simulation.step()
        calls = sorted(record.events(), key=lambda call: call.time_range.start)
        profiles.append([(call.key, call.self_cpu_time_total / 1e3) for call in calls])
    groups: Counter[str] = Counter()
    for same in zip(*profiles, strict=True):
        name = same[0][0]
        if name.startswith("aten::") and name not in NO_WORK:
            groups[OF_KERNEL.get(name, ELEMENTWISE)] += min(cost for _, cost in same)
    return min(plain), groups


def main() -> None:
    """Print one line for every kind of round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10, help="of each round (default 10)")
    add_toy(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = Workload.read(toy=options.toy)
    int8 = ("training.encoding=int8",)
    rounds = {
        "fused, iALS": work.simulation("ials"),
        "fused, BPR": work.simulation("bpr"),
        "vmap, paper, full": work.simulation("bpr", preset="paper"),
        "vmap, paper, lora": work.simulation("bpr", preset="paper", adapter="lora"),
        "vmap, paper, hash": work.simulation("bpr", preset="paper", adapter="hash"),
        "vmap, paper, rq": work.simulation("bpr", preset="paper", adapter="rq"),
    }
    for adapter in ("full", "lora", "hash", "rq"):
        encoded = work.simulation("ials", adapter=adapter, settings=int8)
        rounds[f"vmap, iALS int8, {adapter}"] = encoded
    for backbone in ("fedncf", "pfedrec", "fedpergnn"):
        rounds[f"fused, BPR, {backbone}"] = work.simulation("bpr", backbone=backbone)
        paper = work.simulation("bpr", preset="paper", backbone=backbone)
        rounds[f"vmap, paper, {backbone}"] = paper
    rounds["fused, iALS, fedpergnn"] = work.simulation("ials", backbone="fedpergnn")
    names = [*GROUPS, ELEMENTWISE, "Python, dispatch"]
    print(f"{data_name(toy=options.toy)}, one thread, processor ms a round; load {load()}")
    print(f"{'':26s}{'all':>7s}", *(f"{name:>12s}" for name in names))
    for title, simulation in rounds.items():
        total, groups = breakdown(simulation, options.repeats)
        groups["Python, dispatch"] = total - groups.total()
        print(f"{title:26s}{total:7.1f}", *(f"{groups[name]:12.1f}" for name in names))


if __name__ == "__main__":
    main()
