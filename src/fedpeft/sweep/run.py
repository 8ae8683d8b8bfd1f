"""A sweep from grid to results table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import abspath
from pathlib import Path
from shlex import join

from fedpeft.errors import ConfigError, Interrupted
from fedpeft.files import read_json
from fedpeft.records.sweep import CompareFacts, SweepFacts
from fedpeft.sweep.cell import Cell
from fedpeft.sweep.folder import Job, SweepFolder
from fedpeft.sweep.grid import Grid
from fedpeft.sweep.memory import Budget
from fedpeft.sweep.process import How
from fedpeft.sweep.scheduler import Scheduler, SweepWatcher
from fedpeft.sweep.search import Search, check_search
from fedpeft.sweep.study import Found
from fedpeft.sweep.table import Results


@dataclass(frozen=True)
class Summary:
    """How a sweep stands.

    Attributes
    ----------
    cells, done
        Cells of the grid with every seed, and those with a result.
    asked
        How many of them were asked for.
    failed
        Name and reason of each cell, among those asked for, that could not be finished.
    found
        What a search has found for each combination of labels.
    """

    out: Path
    cells: int
    done: int
    asked: int
    failed: Sequence[tuple[str, str]]
    found: Sequence[Found]


def sweep(
    grid: Grid,
    cells: Sequence[Cell],
    chosen: Sequence[Cell],
    out: Path | str,
    watcher: SweepWatcher,
    *,
    jobs: int,
    memory: int,
    how: How,
    until: float | None = None,
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
    until
        When a search is to end; see `Search`.

    Raises
    ------
    ConfigError
        If `out` is a run's folder or another grid's, or a search is asked for some seeds only.
    ArtifactError
        If another sweep is running in `out`, or what is known of earlier runs is damaged.
    Interrupted
        If a signal asked for an end; the runs wrote checkpoints first.
    """
    out = Path(out)
    check_search(grid)
    _check_choice(grid, chosen)
    _check_name(grid, out)
    folder = SweepFolder(out)
    with folder.locked() as lock:
        plan: Search | _Given = (
            _Given(folder, cells, chosen)
            if grid.file.search is None
            else Search(grid, [cell.labels for cell in chosen], folder, until)
        )
        pending = plan.begin(jobs)
        results = Results(folder)
        _write_facts(grid, out)
        results.write(plan.cells)
        watcher.searched(plan.left, plan.found(), until)

        def follow() -> Iterable[Job]:
            more = plan.follow()
            results.write(plan.cells)
            watcher.searched(plan.left, plan.found(), until)
            return more

        budget = Budget(memory, jobs, folder.peaks(map(folder.job, plan.cells)))
        try:
            Scheduler(folder, budget, how, watcher, lock).run(pending, follow)
        except Interrupted as stop:
            results.write(plan.cells)
            raise Interrupted(f"{stop}; the same command goes on") from None
        return _summary(folder, plan)


class _Given:
    """The cells of a grid without a search, which are known from the start."""

    def __init__(self, folder: SweepFolder, cells: Sequence[Cell], chosen: Sequence[Cell]) -> None:
        self._folder, self.cells, self.chosen = folder, cells, chosen
        self.left = 0

    def begin(self, at_once: int) -> list[Job]:
        """Return the runs to be made; cells with equal configurations share one."""
        found: dict[Path, Job] = {}
        for cell in self.chosen:
            job = self._folder.job(cell)
            if self._folder.status(job) != "done":
                found.setdefault(job.folder, job)
        return list(found.values())

    def follow(self) -> list[Job]:
        """Return no further runs."""
        return []

    def found(self) -> list[Found]:
        """Return nothing: nothing was searched for."""
        return []


def _summary(folder: SweepFolder, plan: Search | _Given) -> Summary:
    status = {cell: folder.status(folder.job(cell)) for cell in plan.cells}
    return Summary(
        out=folder.path,
        cells=len(plan.cells),
        done=list(status.values()).count("done"),
        asked=len(plan.chosen),
        failed=[
            (cell.name, folder.outcomes[folder.job(cell).folder.name].reason or "")
            for cell in plan.chosen
            if status[cell] == "failed"
        ],
        found=plan.found(),
    )


def _check_choice(grid: Grid, chosen: Sequence[Cell]) -> None:
    seeds = {cell.config.seed for cell in chosen}
    if grid.file.search is not None and seeds != set(grid.file.seeds):
        raise ConfigError(
            "--only seed=… leaves seeds out, but what a search compares is the mean over all of "
            "them; choose among the other labels"
        )


def _check_name(grid: Grid, out: Path) -> None:
    """Raise `ConfigError` if the folder is of a grid file with another name."""
    path = out / SweepFacts.FILE
    if path.is_file():
        facts = read_json(path)
        name = facts.get("name") if isinstance(facts, dict) else None
        if isinstance(name, str) and name != grid.path.stem:
            raise ConfigError(
                f"{out} holds the sweep of {name!r}, not of {grid.path.stem!r}; choose another "
                "--out"
            )


def _command(grid: Grid, out: Path) -> str:
    """Return the command that makes the same sweep, from the folder where this one was begun."""
    words = ["fedpeft", "sweep", _told(grid.path)]
    if abspath(grid.data) != abspath("."):
        words += ["--data", _told(grid.data)]
    if abspath(out) != abspath(Path("runs") / grid.path.stem):
        words += ["--out", _told(out)]
    return join(words)


def _told(path: Path) -> str:
    """Return a path from the working folder, where it lies in that; never what looks an option."""
    whole, here = Path(abspath(path)), abspath(".")  # links stay: their names count
    near = whole.relative_to(here) if whole.is_relative_to(here) else path
    return f"./{near}" if str(near).startswith("-") else str(near)


def _write_facts(grid: Grid, out: Path) -> None:
    """Write what was asked for; the report reads it."""
    searched = list(grid.file.search.keys) if grid.file.search else []
    axes = {name: list(labels) for name, labels in grid.axes.items()}
    SweepFacts(
        name=grid.path.stem,
        command=_command(grid, out),
        grid=grid.path.read_text(encoding="utf-8"),
        axes={**axes, **{key: [] for key in searched}},
        searched=searched,
        seeds=list(grid.file.seeds),
        compare=grid.file.compare and CompareFacts(**grid.file.compare.model_dump()),
    ).write(out)
