"""Seconds and memory against items, users and cohort: `python benchmarks/scale.py`.

Every point runs in a process of its own, so that its peak memory is its own, and adds one line to
results/scale.jsonl.  Points that are there already are left out, so an interrupted sweep goes on
where it stopped.  The sweep ends with the picture (`--plot` draws it alone).

One computing thread is the default: its processor time hardly depends on what else the machine
does, so a sweep need not wait for a quiet hour.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from options import add_out, add_toy, refuse_toy_results
from scale_plot import draw
from scale_point import Point, data_file

HERE = Path(__file__).parent
DATA = HERE.parent / ".benchmarks"
LINES = "scale.jsonl"

ITEMS, USERS, CLIENTS = 100_000, 50_000, 1000  # what a sweep holds fixed


def points(threads: int) -> Iterator[Point]:
    """Yield all points: the promised size first, then one sweep each of items, users, cohort."""
    for adapter in ("rq", "hash"):
        for loss in ("ials", "bpr"):
            yield Point(1_000_000, 200_000, 2000, adapter, loss, threads=threads)
        yield Point(1_000_000, 200_000, 2000, adapter, "ials", end_to_end=True, threads=threads)
    for loss in ("ials", "bpr"):
        for adapter in ("rq", "hash", "lora", "full"):
            for items in (10_000, 100_000, 1_000_000):
                yield Point(items, USERS, CLIENTS, adapter, loss, threads=threads)
        for adapter in ("rq", "hash"):
            for users in (10_000, 200_000):
                yield Point(ITEMS, users, CLIENTS, adapter, loss, threads=threads)
            for clients in (100, 5000, 20_000):
                yield Point(ITEMS, USERS, clients, adapter, loss, threads=threads)
    for adapter in ("rq", "hash", "lora", "full"):
        for clients in (100, 1000):
            yield Point(ITEMS, USERS, clients, adapter, "bpr", "paper", threads=threads)


def toy_points(threads: int) -> Iterator[Point]:
    """Yield a point of each kind at a size that takes no time."""
    yield Point(200, 40, 4, "rq", "ials", threads=threads)
    yield Point(200, 40, 4, "rq", "bpr", "paper", threads=threads)
    yield Point(200, 40, 4, "hash", "ials", end_to_end=True, threads=threads)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the results so far."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def sweep(wanted: Iterable[Point], results: Path, data: Path, timeout: float) -> None:
    """Measure the points that a file of results lacks, on histories kept in the folder `data`."""
    present = {json.dumps(line["point"], sort_keys=True) for line in read_lines(results)}
    missing = [p for p in wanted if json.dumps(asdict(p), sort_keys=True) not in present]
    results.parent.mkdir(exist_ok=True)
    for number, point in enumerate(missing, 1):
        start = time.perf_counter()
        if not point.end_to_end and not data_file(point, data).exists():
            _child("data", point, data, timeout)
        line = _child("point", point, data, timeout)
        with results.open("a") as file:
            file.write(line)
        took = time.perf_counter() - start
        print(f"{number}/{len(missing)} in {took:.0f} s: {_summary(json.loads(line))}", flush=True)


def _child(what: str, point: Point, data: Path, timeout: float) -> str:
    """Run `scale_point.py` in a fresh process; return what it printed."""
    command = [sys.executable, HERE / "scale_point.py", what, json.dumps(asdict(point)), data]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=timeout)
    return done.stdout


def _summary(line: dict[str, Any]) -> str:
    point = line["point"]
    name = (
        f"{point['items']:,} items, {point['users']:,} users, {point['clients']:,} clients, "
        f"{point['adapter']} {point['loss']}"
    )
    if point["end_to_end"]:
        cost = f"{line['seconds']:.0f} s from nothing to the end"
    else:
        cost = f"{line['round_cpu_s']:.3f} processor seconds a round"
    return f"{name}: {cost}, {line['peak_mb'] / 1e3:.2f} GB"


def main() -> None:
    """Measure what is missing, then draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="computing threads (default 1)")
    parser.add_argument("--first", type=int, help="only the first so many points")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds a point may take")
    parser.add_argument("--plot", action="store_true", help="only draw")
    parser.add_argument(
        "--data", type=Path, default=DATA, help="folder of generated histories (.benchmarks/)"
    )
    add_out(parser)
    add_toy(parser)
    options = parser.parse_args()
    if options.toy:
        refuse_toy_results(parser, options.out)
    results = options.out / LINES
    if not options.plot:
        wanted = (toy_points if options.toy else points)(options.threads)
        sweep(list(wanted)[: options.first], results, options.data, options.timeout)
    draw(read_lines(results), options.out)


if __name__ == "__main__":
    main()
