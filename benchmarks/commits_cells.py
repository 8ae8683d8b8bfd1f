"""What `commits.py` measures: cells of a table, asked of processes of the two commits in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from machine import load

WORKER = Path(__file__).with_name("commits_worker.py")
USERS, ITEMS, PER_USER = 6040, 3706, 165  # as ml-1m
FEW_USERS, FEW_ITEMS = 600, 1000  # for the sequential backend, which is slow
KEPT = "glibc.malloc.mmap_threshold=67108864:glibc.malloc.trim_threshold=268435456"
"""As the command line sets it (`fedpeft.memory.keep_freed`).  Otherwise page faults, whose number
differs from process to process, take up to half of a round."""


class Refused(Exception):
    """A sentence that says why a commit does not do what it was asked for."""


@dataclass(frozen=True)
class Cell:
    """What is measured on both sides."""

    backbone: str
    adapter: str
    backend: str


@dataclass(frozen=True)
class Wanted:
    """What holds for all cells.

    Attributes
    ----------
    data
        Folder of a data set; None: synthetic data of `users` and `items`.
    users, items
        None: the defaults of a cell's backend.
    """

    preset: str
    settings: Sequence[str]
    rounds: int
    data: Path | None = None
    users: int | None = None
    items: int | None = None

    def is_small(self, cell: Cell) -> bool:
        """Return whether the cell's data are smaller than those of other backends."""
        return cell.backend == "sequential" and self.data is None

    def request(self, cell: Cell) -> dict[str, Any]:
        """Return what a process is asked for."""
        settings: list[str] = []
        if self.data is None:
            small = self.is_small(cell)
            users = self.users or (FEW_USERS if small else USERS)
            items = self.items or (FEW_ITEMS if small else ITEMS)
            settings = [
                f"data.synthetic.users={users}",
                f"data.synthetic.items={items}",
                f"data.synthetic.interactions_per_user={min(PER_USER, items / 3)}",
            ]
        if cell.backend == "fused":  # it never has the single updates that int8 would round
            settings.append("training.encoding=float32")
        return {
            **asdict(cell),
            "source": "synthetic" if self.data is None else str(self.data),
            "preset": self.preset,
            "settings": [*settings, *self.settings],
            "rounds": self.rounds,
            "prepared": "few.pickle" if self.is_small(cell) else "many.pickle",
        }


@dataclass(frozen=True)
class Side:
    """One of the two commits, checked out, with a folder for what its processes hand on."""

    tree: Path
    folder: Path

    def ask(self, what: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a fresh process of the commit answers; raises `Refused` if it does not."""
        done = subprocess.run(
            [sys.executable, WORKER, what, json.dumps(request), self.tree],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(self.tree / "src"),
                "FEDPEFT_CACHE": str(self.folder / "cache"),
                "OMP_NUM_THREADS": "1",
                "GLIBC_TUNABLES": KEPT,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = done.stderr.strip().rpartition("\n")[2]
            raise Refused(last or f"its process ended with {done.returncode}")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if "refused" in answer:
            raise Refused(answer["refused"])
        return answer


def prepare(sides: Mapping[str, Side], wanted: Wanted, cells: Sequence[Cell]) -> dict[str, Any]:
    """Let each side make its data ready, once for every size; return the sizes by backend.

    Raises
    ------
    Refused
        If a side refuses the data or a setting.
    """
    done: dict[bool, dict[str, Any]] = {}
    for cell in cells:
        small = wanted.is_small(cell)
        if small not in done:
            for name, side in sides.items():
                try:
                    done[small] = side.ask("prepare", wanted.request(cell))
                except Refused as error:
                    raise Refused(f"{name}: {error}") from None
    return {cell.backend: done[wanted.is_small(cell)] for cell in cells}


def measure(cell: Cell, sides: Mapping[str, Side], wanted: Wanted, pairs: int) -> dict[str, Any]:
    """Return figures of both sides and their ratios, or what a side says instead."""
    request = wanted.request(cell)
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    refused: dict[str, str] = {}
    for _ in range(pairs):
        for name, side in sides.items():
            try:
                taken[name].append(side.ask("measure", request))
            except Refused as error:
                refused[name] = str(error)
        if refused:
            return {**asdict(cell), "refused": refused}
    ratios = {
        f"{what}_ratio": median(
            new[key] / old[key] for old, new in zip(taken["old"], taken["new"], strict=True)
        )
        for what, key in (("time", "round_s"), ("cpu", "round_cpu_s"), ("memory", "peak_mb"))
    }
    return {**asdict(cell), **_medians(taken), **ratios, "processes": taken, "load": load()}


def _medians(taken: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Return the figures of each side, each a median over its processes."""
    return {
        name: {
            "rounds_per_s": 1 / median(one["round_s"] for one in found),
            **{key: median(one[key] for one in found) for key in found[0]},
        }
        for name, found in taken.items()
    }
