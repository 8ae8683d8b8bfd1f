"""`fedpeft sweep`."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpeft.cli.console import print_json, say, tell
from fedpeft.errors import ConfigError, InputError

if TYPE_CHECKING:
    from fedpeft.sweep import Summary


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="sweep")(sweep)


def sweep(
    grid: Annotated[Path, typer.Argument(help="Grid file, TOML.")],
    out: Annotated[
        Path | None, typer.Option(help="Sweep folder; by default runs/NAME of the grid file.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at once; by default one per core.")
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(help="GB that all runs together may take; by default 80 % of what is free."),
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder that data sets are in.")] = Path(),
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="Run the cells with a label; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Rounds between checkpoints.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Run a grid of configurations, each with several seeds; a second call goes on."""
    from fedpeft.cli.sweep_progress import watching
    from fedpeft.sweep import read_grid, select
    from fedpeft.sweep import sweep as run
    from fedpeft.sweep.folder import available_memory
    from fedpeft.sweep.process import How

    if memory is not None and not 0 < 1e9 * memory < math.inf:
        raise ConfigError(f"--memory {memory:g} must be a number of GB above 0")
    how = How(device, checkpoint_every)
    how.check()
    file = read_grid(grid, data)
    cells = file.cells()
    chosen = select(cells, only or [])
    folder = out or Path("runs") / grid.stem
    if folder.is_file():
        raise ConfigError(f"{folder} cannot be a sweep folder because it is a file")
    with watching(as_json) as watcher:
        summary = run(
            file,
            cells,
            chosen,
            folder,
            watcher,
            jobs=jobs or cores(),
            memory=int(1e9 * memory) if memory else available_memory() * 4 // 5,
            how=how,
        )
    _tell(summary, as_json=as_json)
    for name, why in summary.failed:
        say(f"failed: {name}: {why}")
    if summary.failed:
        raise InputError(f"{len(summary.failed)} of {summary.asked} cells failed; see above")


def cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _tell(summary: Summary, *, as_json: bool) -> None:
    """Print how the sweep stands."""
    if as_json:
        print_json(
            {
                "folder": str(summary.out),
                "cells": summary.cells,
                "done": summary.done,
                "failed": [{"cell": name, "reason": why} for name, why in summary.failed],
                "best": [
                    {
                        "labels": each.labels,
                        "settings": each.best.settings,
                        "validation_ndcg@10": each.best.value,
                    }
                    for each in summary.found
                ],
                "results": str(summary.out / "results.parquet"),
            }
        )
    else:
        tell(f"{summary.done} of {summary.cells} cells done: {summary.out / 'results.csv'}")
        for each in summary.found:
            of = "".join(f" for {axis}={label}" for axis, label in each.labels.items())
            best = ", ".join(f"{key} = {value}" for key, value in each.best.settings.items())
            tell(f"best{of}: {best} (validation NDCG@10 {each.best.value:.4f})")
