"""What each strategy costs against the size of the catalogue: `python benchmarks/cost.py`.

Counts and measures with one thread for n from 1,000 to 10,000,000 items, MovieLens 1M's clients and
the default settings; writes results/cost.json and draws it (`--plot` draws it alone).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from cost_plot import draw
from fedpeft.cost import as_json, costs
from fedpeft.experiment.costs import scale_of, strategies
from fedpeft.files import write_json
from machine import describe, load, peak_bytes

RESULTS = Path(__file__).parent / "results"
FILE = RESULTS / "cost.json"
ITEMS = tuple(10**power for power in range(3, 8))


def measure() -> dict[str, Any]:
    """Return costs at every size, with the machine they were measured on."""
    torch.set_num_threads(1)
    points = []
    for items in ITEMS:
        began = time.perf_counter()
        scale = scale_of({}, items=items)
        found = as_json(costs(strategies({}), scale, measured=True), scale)
        seconds = time.perf_counter() - began
        points.append({**found, "load": load()})
        print(f"{items:,} items in {seconds:.0f} s, peak {peak_bytes() / 1e9:.2f} GB", flush=True)
    return {"machine": describe(threads=1), "points": points}


def main() -> None:
    """Measure, then draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", action="store_true", help="only draw")
    options = parser.parse_args()
    if not options.plot:
        write_json(FILE, measure())
    draw(json.loads(FILE.read_text())["points"], RESULTS)


if __name__ == "__main__":
    main()
