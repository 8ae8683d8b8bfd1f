"""Search for settings on validation with optuna, one study per combination of the axes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from fedpeft.errors import ConfigError
from fedpeft.sweep.cell import Cell, Labels
from fedpeft.sweep.folder import Job, SweepFolder
from fedpeft.sweep.grid import Grid
from fedpeft.sweep.journal import import_optuna, open_journal
from fedpeft.sweep.space import ends
from fedpeft.sweep.study import Found, Study, trial_cell


class Search:
    """Asks for settings, and tells how they did; all of it is kept in ``search.journal``.

    Parameters
    ----------
    combinations
        Labels to search for; what was found for others is kept.
    until
        Time of the monotonic clock at which the search is to end: no trial is begun that would not
        end before it, as far as earlier ones tell.  None: the number of trials decides.

    Raises
    ------
    MissingExtraError
        If optuna is not installed.
    ArtifactError
        If the journal is damaged.
    """

    def __init__(
        self,
        grid: Grid,
        combinations: Sequence[Labels],
        folder: SweepFolder,
        until: float | None = None,
    ) -> None:
        self._folder, self._until = folder, until
        self._seeds = len(grid.file.seeds)
        self._begun: set[Path] = set()
        """Run folders that were handed out: trials with equal settings share a run."""
        storage = open_journal(folder.path / "search.journal")
        self._studies = [
            Study(grid, labels, settings, folder, storage, chosen=labels in combinations)
            for labels, settings in grid.settings
        ]

    @property
    def cells(self) -> list[Cell]:
        """Return the cells of all trials so far."""
        return [cell for each in self._studies for cell in each.cells]

    @property
    def chosen(self) -> list[Cell]:
        """Return those of the labels that are searched for."""
        return [cell for each in self._studies if each.chosen for cell in each.cells]

    @property
    def left(self) -> int:
        """Return how many runs it may still ask for."""
        return self._seeds * sum(each.left for each in self._studies if each.chosen)

    def begin(self, at_once: int) -> list[Job]:
        """Return the runs of open trials, and of so many that `at_once` are open."""
        pending = [
            job
            for study in self._studies
            if study.chosen
            for jobs in study.open.values()
            for job in self._begin(jobs)
        ]
        self._settle()
        while len(pending) < at_once and (more := list(self._ask())):
            pending += more
        return pending

    def follow(self) -> list[Job]:
        """Tell what is known now; return the runs of as many new trials as ended."""
        found: list[Job] = []
        for _ in range(self._settle()):
            found += self._ask()
        return found

    def found(self) -> list[Found]:
        """Return what was found, of each study that is searched and has a result."""
        return [found for each in self._studies if each.chosen if (found := each.found())]

    def _ask(self) -> Iterator[Job]:
        """Open one trial, of the study that has the fewest; one that is known ends at once."""
        while True:
            left = [study for study in self._studies if study.chosen and study.left > 0]
            if not left or self._late():
                return
            jobs = max(left, key=lambda study: study.left).ask()
            if jobs is None:
                continue
            if new := self._begin(jobs):
                yield from new
                return
            self._settle()

    def _late(self) -> bool:
        """Return whether a further trial would not end in time; the first is begun anyhow."""
        if self._until is None or not any(study.begun for study in self._studies):
            return False
        took = [seconds for study in self._studies for seconds in study.took]
        return time.monotonic() + (mean(took) if took else 0.0) > self._until

    def _begin(self, jobs: Sequence[Job]) -> list[Job]:
        """Return those of some runs that are to be made, each once; what failed is tried again."""
        new = []
        for job in jobs:
            if job.folder not in self._begun and self._folder.status(job) != "done":
                self._begun.add(job.folder)
                self._folder.retry(job)
                new.append(job)
        return new

    def _settle(self) -> int:
        """Tell the studies of trials whose runs have all ended; return how many."""
        return sum(study.settle() for study in self._studies)


def check_search(grid: Grid) -> None:
    """Resolve both ends of every searched range, and every choice, if the grid has any.

    Raises
    ------
    MissingExtraError
        If optuna is not installed.
    ConfigError
        If one is no setting of a run, or a key acts for no combination of the axes.
    """
    if grid.file.search is None:
        return
    import_optuna()
    spaces = grid.file.search.spaces()
    first = {key: ends(space)[0] for key, space in spaces.items()}
    for key, space in spaces.items():
        idle: list[list[str]] = []  # for each combination of the axes
        for labels, settings in grid.settings:
            cells = [
                trial_cell(grid, labels, settings, {**first, key: value}, seed=0)
                for value in ends(space)
            ]
            idle.append([cell.idle[key] for cell in cells if key in cell.idle])
        if all(idle):
            raise ConfigError(f"{grid.path}: {idle[0][0]}")
