"""One commit against another: `python benchmarks/commits.py OLD NEW`.

For each backbone, adapter and backend it measures rounds a second and peak memory.  Every figure is
from processes of their own, which take turns (OLD NEW OLD NEW ...), with one computing thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commits_cells import Cell, Refused, Side, Wanted, measure, prepare
from commits_worker import BACKENDS
from fedpeft.files import write_json
from machine import describe
from options import add_out
from worktrees import GitError, checked_out, resolve

BACKBONES = ("fedmf", "fedncf", "pfedrec", "fedpergnn")
ADAPTERS = ("full", "lora", "hash", "rq")
FORMER = ", ".join(f"{name} = {old}" for name, old in BACKENDS.items())
COLUMNS = "{:10s} {:7s} {:10s} {:>8s} {:>8s} {:>6s} {:>6s} {:>8s} {:>8s} {:>6s}"
HEADS = (
    ("", "", "", "rounds/s", "", "time", "cpu", "peak MB", "", "peak"),
    ("", "", "", "old", "new", "ratio", "ratio", "old", "new", "ratio"),
)


def parsed() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Return the parser and what it read."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", help="commit that is the measure, by any name git knows")
    parser.add_argument("new", help="commit that is measured against it")
    parser.add_argument("--pairs", type=int, default=5, help="processes of each side (default 5)")
    parser.add_argument("--rounds", type=int, default=10, help="timed in a process (default 10)")
    parser.add_argument("--users", type=int, help="of synthetic data (default: as ml-1m, or few)")
    parser.add_argument("--items", type=int, help="likewise; few is for the sequential backend")
    parser.add_argument("--data", type=Path, help="folder of a data set, for all backends")
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=BACKBONES)
    parser.add_argument("--adapters", nargs="+", choices=ADAPTERS, default=("full", "lora"))
    parser.add_argument(
        "--backends", nargs="+", choices=BACKENDS, default=tuple(BACKENDS), help=FORMER
    )
    parser.add_argument("--preset", default="fedpeft", help="fedpeft (default) or paper")
    parser.add_argument("--set", action="append", default=[], help="further key, table.key=value")
    add_out(parser)
    options = parser.parse_args()
    for name in ("pairs", "rounds", "users", "items"):
        number = getattr(options, name)
        if number is not None and number < 1:
            parser.error(f"--{name} {number} must be 1 or more")
    if options.data and (options.users or options.items):
        parser.error("--users and --items are for synthetic data, --data names another")
    if options.data and not options.data.is_dir():
        parser.error(f"--data {options.data} is no folder")
    return parser, options


def line(found: Mapping[str, Any]) -> str:
    """Return a cell's line of the table."""
    start = (found["backbone"], found["adapter"], found["backend"])
    if "refused" in found:
        reasons = dict.fromkeys(found["refused"].values())  # once, where both say the same
        who = "" if len(found["refused"]) == 2 else f"{', '.join(found['refused'])}: "
        return f"{start[0]:10s} {start[1]:7s} {start[2]:10s} {who}{' / '.join(reasons)}"
    old, new = found["old"], found["new"]
    return COLUMNS.format(
        *start,
        *(f"{side['rounds_per_s']:.2f}" for side in (old, new)),
        *(f"{found[f'{name}_ratio']:.3f}" for name in ("time", "cpu")),
        *(f"{side['peak_mb']:.0f}" for side in (old, new)),
        f"{found['memory_ratio']:.3f}",
    )


def compare(commits: Mapping[str, str], options: argparse.Namespace) -> Path:
    """Measure all cells, printing each; return the file they are in.

    Raises
    ------
    GitError
        If a commit cannot be checked out.
    Refused
        If a commit refuses the data or a setting.
    """
    wanted = Wanted(
        preset=options.preset,
        settings=options.set,
        rounds=options.rounds,
        data=options.data and options.data.resolve(),
        users=options.users,
        items=options.items,
    )
    cells = [
        Cell(backbone, adapter, backend)
        for backbone in options.backbones
        for adapter in options.adapters
        for backend in options.backends
    ]
    file: Path = options.out / f"commits-{commits['old'][:8]}-{commits['new'][:8]}.json"
    about = {
        "commits": dict(commits),
        "machine": describe(1),
        "data": options.data.resolve().name if options.data else "synthetic",
        "preset": options.preset,
        "settings": options.set,
        "pairs": options.pairs,
        "rounds": options.rounds,
    }
    with checked_out(commits) as (folder, trees):
        sides = {name: Side(tree, folder / f"{name}-data") for name, tree in trees.items()}
        for side in sides.values():
            side.folder.mkdir()
        about["sizes"] = prepare(sides, wanted, cells)
        print("\n".join(COLUMNS.format(*head).rstrip() for head in HEADS), flush=True)
        found: list[dict[str, Any]] = []
        for cell in cells:
            found.append(measure(cell, sides, wanted, options.pairs))
            print(line(found[-1]), flush=True)
            write_json(file, {**about, "cells": found})  # what an interrupt must not lose
    return file


def main() -> None:
    """Compare two commits and say where the figures are."""
    parser, options = parsed()
    try:
        commits = {"old": resolve(options.old), "new": resolve(options.new)}
        print(", ".join(f"{side} {commit}" for side, commit in commits.items()))
        print(f"Wrote {compare(commits, options)}")
    except (GitError, Refused) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
