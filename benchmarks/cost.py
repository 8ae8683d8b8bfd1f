"""What each strategy costs against the size of the catalogue: `python benchmarks/cost.py`.

Measures with one thread for n from 1,000 to 10,000,000 items, MovieLens 1M's clients and the
default settings, and writes results/cost.json; then draws bytes, which are counted anew (`--plot`
does only that).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import torch

from cost_plot import draw
from fedpeft.cost import Cost, as_json, costs
from fedpeft.experiment.costs import scale_of, strategies
from fedpeft.files import write_json
from machine import describe, load, peak_bytes
from options import add_out

FILE = "cost.json"
ITEMS = tuple(10**power for power in range(3, 8))


def measure(sizes: Sequence[int]) -> dict[str, Any]:
    """Return costs at every size, with the machine they were measured on."""
    torch.set_num_threads(1)
    points = []
    for items in sizes:
        began = time.perf_counter()
        scale = scale_of({}, items=items)
        found = as_json(costs(strategies({}), scale, measured=True), scale)
        seconds = time.perf_counter() - began
        taken = [
            {"label": each["label"], "measured": each["measured"]} for each in found["strategies"]
        ]
        points.append({"scale": found["scale"], "strategies": taken, "load": load()})
        print(f"{items:,} items in {seconds:.0f} s, peak {peak_bytes() / 1e9:.2f} GB", flush=True)
    return {"machine": describe(threads=1), "points": points}


def warmups() -> str:
    """Return how many rounds adapters warm up for."""
    rounds = {each.training.warmup_rounds for each in strategies({}) if each.kind != "full"}
    return " or ".join(map(str, sorted(rounds)))


def count(sizes: Sequence[int]) -> dict[int, list[Cost]]:
    """Return the costs by number of items, counted."""
    return {n: costs(strategies({}), scale_of({}, items=n), measured=False) for n in sizes}


def main() -> None:
    """Measure, then draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", action="store_true", help="only draw")
    parser.add_argument(
        "--items", type=int, nargs="+", default=ITEMS, help="sizes of the catalogue"
    )
    add_out(parser)
    options = parser.parse_args()
    if not options.plot:
        write_json(options.out / FILE, measure(options.items))
    draw(count(options.items), warmups(), options.out)


if __name__ == "__main__":
    main()
