"""One process of `commits.py`: what one commit does, asked for and answered in JSON.

It runs with the library of that commit, which may be older or newer than this file.  So it uses
little of it, and looks up how the commit calls what was renamed.
"""

from __future__ import annotations

import inspect
import json
import pickle
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

import fedpeft
from machine import peak_bytes

BACKENDS = {"sequential": "loop", "fused": "shared", "vmap": "stacked"}
"""Name of a backend -> what commits call it whose `RunOptions` have a `plan` instead."""
UNTIMED = 2
"""Rounds before those that are timed: first calls allocate."""


def configured(asked: dict[str, Any]) -> Any:
    """Return the configuration of a request, under the names this commit has."""
    known = inspect.signature(fedpeft.configure).parameters
    preset = "preset" if "preset" in known else "recipe"
    return fedpeft.configure(
        data=asked["source"],
        backbone=asked["backbone"],
        adapter=asked["adapter"],
        seed=0,
        settings=["training.warmup_rounds=0", *asked["settings"]],
        **{preset: asked["preset"]},
    )


def options(backend: str) -> Any:
    """Return run options that ask for a backend."""
    if "backend" in inspect.signature(fedpeft.RunOptions).parameters:
        return fedpeft.RunOptions(device="cpu", backend=backend)
    return fedpeft.RunOptions(device="cpu", plan=BACKENDS[backend])


def prepare(asked: dict[str, Any]) -> dict[str, Any]:
    """Read, split and pretrain once, for all processes of this commit."""
    prepared = fedpeft.prepare(configured(asked))
    with Path(asked["prepared"]).open("wb") as file:
        pickle.dump(prepared, file)
    return {"users": prepared.split.n_users, "items": prepared.split.n_items}


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds of a round and the peak memory."""
    with Path(asked["prepared"]).open("rb") as file:
        prepared = pickle.load(file)
    before = peak_bytes()
    simulation = fedpeft.build(
        configured(asked), prepared.split, prepared.items, options(asked["backend"])
    )
    for _ in range(UNTIMED):
        simulation.step()
    wall: list[float] = []
    cpu: list[float] = []
    for _ in range(asked["rounds"]):
        elapsed, busy = time.perf_counter(), time.process_time()
        simulation.step()
        wall.append(time.perf_counter() - elapsed)
        cpu.append(time.process_time() - busy)
    return {
        "round_s": median(wall),
        "round_cpu_s": median(cpu),
        "before_mb": before / 1e6,
        "peak_mb": peak_bytes() / 1e6,
    }


def main(what: str, text: str, tree: str) -> None:
    """Answer one request with the library of a tree; what it refuses is an answer, too."""
    torch.set_num_threads(1)
    library = Path(fedpeft.__file__)
    if not library.is_relative_to(tree):
        raise SystemExit(f"fedpeft comes from {library}, not from {tree}")
    asked = json.loads(text)
    try:
        answer = prepare(asked) if what == "prepare" else measure(asked)
    except ValueError as error:  # the library's own errors of configuration and data are such
        answer = {"refused": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
