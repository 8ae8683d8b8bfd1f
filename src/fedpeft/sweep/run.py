"""A sweep from grid to results table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedpeft.errors import Interrupted
from fedpeft.files import write_json
from fedpeft.sweep.folder import Job, Outcome, SweepFolder
from fedpeft.sweep.grid import Cell, Grid
from fedpeft.sweep.memory import Budget
from fedpeft.sweep.process import How
from fedpeft.sweep.scheduler import Scheduler, SweepWatcher
from fedpeft.sweep.table import Results


@dataclass(frozen=True)
class Summary:
    """How a sweep stands.

    Attributes
    ----------
    cells, done
        Cells of the grid with every seed, and those with a result.
    failed
        Name and reason of each cell, among those asked for, that could not be finished.
    """

    out: Path
    cells: int
    done: int
    failed: Sequence[tuple[str, str]]


def sweep(
    grid: Grid,
    cells: Sequence[Cell],
    chosen: Sequence[Cell],
    out: Path,
    watcher: SweepWatcher,
    *,
    jobs: int,
    memory: int,
    how: How,
) -> Summary:
    """Run the chosen cells of a grid, as many at once as fit, and keep the results table.

    Finished runs are kept, begun ones resumed, failed ones tried again.

    Parameters
    ----------
    cells
        All cells of the grid: rows of the table.
    out
        Sweep folder.
    memory
        Bytes that all processes together may take.

    Raises
    ------
    ConfigError
        If another sweep is running in `out`.
    Interrupted
        If a signal asked for an end; the runs wrote checkpoints first.
    """
    folder = SweepFolder(out)
    with folder.locked() as lock:
        write_json(
            out / "sweep.json",
            {
                "name": grid.path.stem,
                "command": f"fedpeft sweep {grid.path.name}",
                "axes": {name: list(labels) for name, labels in grid.axes.items()},
                "seeds": list(grid.file.seeds),
                "compare": grid.file.compare and grid.file.compare.model_dump(),
            },
        )
        all_jobs = [folder.job(cell) for cell in cells]
        wanted: dict[Path, Job] = {}
        for cell in chosen:  # cells with equal configurations share a run
            job = folder.job(cell)
            wanted.setdefault(job.folder, job)
        pending = [job for job in wanted.values() if folder.status(job) != "done"]
        results = Results(folder, cells)
        results.write()

        def follow(job: Job, outcome: Outcome) -> Iterable[Job]:
            results.write()
            return ()

        budget = Budget(memory, jobs, folder.peaks(all_jobs))
        try:
            Scheduler(folder, budget, how, watcher, lock).run(pending, follow)
        except Interrupted as stop:
            results.write()
            raise Interrupted(f"{stop}; the same command goes on with the sweep") from None
        failed = [
            (job.name, folder.outcomes[job.folder.name].reason or "")
            for job in wanted.values()
            if folder.status(job) == "failed"
        ]
        done = sum(folder.status(job) == "done" for job in all_jobs)
        return Summary(out, len(cells), done, failed)
