"""Search for settings on validation with optuna, one study per combination of the axes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from fedpeft.config import merge
from fedpeft.errors import ArtifactError, ConfigError, MissingExtraError
from fedpeft.records import Result
from fedpeft.records.sweep import JOURNAL_LOCK
from fedpeft.sweep.cell import Cell, Labels
from fedpeft.sweep.file import ChoicesConfig, RangeConfig
from fedpeft.sweep.folder import Job, SweepFolder
from fedpeft.sweep.grid import Grid, nested

OBJECTIVE = "ndcg@10"
"""Sampled, on validation, mean over the seeds; the test part is not read."""


@dataclass
class _Study:
    """The search of one combination of labels."""

    labels: Labels
    settings: Mapping[str, Any]
    study: Any
    chosen: bool
    """Whether it is to have further trials."""
    left: int = 0
    """Trials that it may still be asked for; failed ones of earlier attempts do not count."""
    open: dict[int, list[Job]] = field(default_factory=dict)
    """The runs of each trial that is under way."""
    cells: list[Cell] = field(default_factory=list)
    """Those of all its trials so far."""


class Search:
    """Asks for settings, and tells how they did; all of it is kept in ``search.journal``.

    Parameters
    ----------
    combinations
        Labels to search for; what was found for others is kept.

    Raises
    ------
    MissingExtraError
        If optuna is not installed.
    ArtifactError
        If the journal is damaged.
    """

    def __init__(self, grid: Grid, combinations: Sequence[Labels], folder: SweepFolder) -> None:
        assert grid.file.search is not None
        self._grid, self._folder, self._config = grid, folder, grid.file.search
        self._spaces = self._config.spaces()
        self._optuna = _import()
        self._begun: set[Path] = set()
        """Run folders that were handed out: trials with equal settings share a run."""
        storage = self._storage(folder.path / "search.journal")
        self._studies = [
            self._open(labels, settings, storage, chosen=labels in combinations)
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

    def _storage(self, journal: Path) -> Any:
        """Open the journal, which nobody else has open: the sweep's folder is locked."""
        storages = self._optuna.storages
        journal = journal.resolve()  # optuna's lock is a link to it, by the path that it was given
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.with_name(JOURNAL_LOCK).unlink(missing_ok=True)  # left by a kill
        _cut_torn_line(journal)
        try:
            return storages.JournalStorage(storages.journal.JournalFileBackend(str(journal)))
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise ArtifactError(
                f"{journal} is damaged ({error!r}); without it the search begins anew, with the "
                "runs there are"
            ) from None

    def _open(
        self, labels: Labels, settings: Mapping[str, Any], storage: Any, *, chosen: bool
    ) -> _Study:
        """Load or create a study, and take up its trials.

        A study is one of its settings, keys and seeds: what was tried with others is no trial.
        """
        asked = {"settings": settings, "keys": self._config.keys, "seeds": self._grid.file.seeds}
        study = self._optuna.create_study(
            storage=storage,
            study_name=json.dumps([labels, asked], sort_keys=True),
            direction="maximize",
            load_if_exists=True,
        )
        # another seed at each start: the same would suggest the first settings again
        seed = self._config.seed + 1000 * len(study.trials)
        study.sampler = self._optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        found = _Study(labels, settings, study, chosen)
        failed = self._optuna.trial.TrialState.FAIL
        for trial in study.trials:
            # without all its settings the sweep was killed while it was asked for
            complete = set(trial.params) == set(self._spaces)
            jobs = self._jobs(found, trial) if complete else None
            if trial.state.is_finished():
                continue
            if jobs is None:
                study.tell(trial.number, state=failed)
            else:
                found.open[trial.number] = jobs
        found.left = self._config.trials - sum(t.state != failed for t in study.trials)
        return found

    def _jobs(self, study: _Study, trial: Any) -> list[Job] | None:
        """Return the runs of a trial; None where its settings are none of a run together."""
        values = self._settings(trial)
        try:
            cells = [
                _resolve(self._grid, study.labels, study.settings, values, seed)
                for seed in self._grid.file.seeds
            ]
        except ConfigError:
            return None
        study.cells += cells
        return [self._folder.job(cell) for cell in cells]

    def _settings(self, trial: Any) -> dict[str, Any]:
        """Return a trial's settings; four digits of a number are enough, and can be read."""
        return {key: _rounded(trial.params[key], space) for key, space in self._spaces.items()}

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

    def _ask(self) -> Iterator[Job]:
        """Open one trial, of the study that has the fewest; one that is known ends at once."""
        while True:
            left = [study for study in self._studies if study.chosen and study.left > 0]
            if not left:
                return
            chosen = max(left, key=lambda study: study.left)
            chosen.left -= 1
            trial = chosen.study.ask()
            for key, space in self._spaces.items():
                _suggest(trial, key, space)
            jobs = self._jobs(chosen, trial)
            if jobs is None:
                chosen.study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
                continue
            chosen.open[trial.number] = jobs
            if new := self._begin(jobs):
                yield from new
                return
            self._settle()

    def _begin(self, jobs: Sequence[Job]) -> list[Job]:
        """Return those of some runs that are to be made, each once; what failed is tried again."""
        new = []
        for job in jobs:
            if job.folder not in self._begun and self._folder.status(job) != "done":
                self._begun.add(job.folder)
                self._folder.retry(job)
                new.append(job)
        return new

    def _settled(self, job: Job) -> bool:
        return self._folder.status(job) in ("done", "failed")

    def _settle(self) -> int:
        """Tell the studies of trials whose runs have all ended; return how many."""
        count = 0
        for study in self._studies:
            for number, jobs in list(study.open.items()):
                if not all(map(self._settled, jobs)):
                    continue
                count += 1
                del study.open[number]
                if all(self._folder.status(job) == "done" for job in jobs):
                    study.study.tell(number, mean(map(_objective, jobs)))
                else:
                    study.study.tell(number, state=self._optuna.trial.TrialState.FAIL)
        return count

    def best(self) -> list[tuple[Labels, Mapping[str, Any], float]]:
        """Return labels, best settings and their objective, of each study that has a result."""
        complete = self._optuna.trial.TrialState.COMPLETE
        return [
            (each.labels, self._settings(each.study.best_trial), each.study.best_value)
            for each in self._studies
            if each.chosen and any(trial.state == complete for trial in each.study.trials)
        ]


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
    _import()
    spaces = grid.file.search.spaces()
    first = {key: _values(space)[0] for key, space in spaces.items()}
    for key, space in spaces.items():
        idle: list[list[str]] = []  # for each combination of the axes
        for labels, settings in grid.settings:
            cells = [
                _resolve(grid, labels, settings, {**first, key: value}, seed=0)
                for value in _values(space)
            ]
            idle.append([cell.idle[key] for cell in cells if key in cell.idle])
        if all(idle):
            raise ConfigError(f"{grid.path}: {idle[0][0]}")


def _resolve(
    grid: Grid, labels: Labels, settings: Mapping[str, Any], values: Mapping[str, Any], seed: int
) -> Cell:
    tables = merge(settings, {"seed": seed, "evaluation": {"test": False}})
    for key, value in values.items():
        tables = merge(tables, nested(key, value))
    shown = {key: json.dumps(value) for key, value in values.items()}
    return grid.cell({**labels, **shown}, tables)


def _import() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingExtraError(
            "[search] in a grid file needs the extra 'tune': pip install 'fedpeft[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _cut_torn_line(journal: Path) -> None:
    """Drop what a kill left of a last line; optuna would write on behind it."""
    if journal.is_file():
        os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)


def _rounded(value: Any, space: RangeConfig | ChoicesConfig) -> Any:
    if isinstance(space, ChoicesConfig) or not isinstance(value, float):
        return value
    return min(max(float(f"{value:.4g}"), space.low), space.high)


def _objective(job: Job) -> float:
    return Result.read(job.folder).metrics.validation.sampled[OBJECTIVE]


def _values(space: RangeConfig | ChoicesConfig) -> list[Any]:
    if isinstance(space, ChoicesConfig):
        return list(space.choices)
    return [space.low, space.high]


def _suggest(trial: Any, key: str, space: RangeConfig | ChoicesConfig) -> None:
    if isinstance(space, ChoicesConfig):
        trial.suggest_categorical(key, list(space.choices))
    elif isinstance(space.low, int) and isinstance(space.high, int):
        trial.suggest_int(key, space.low, space.high, log=space.log)
    else:
        trial.suggest_float(key, space.low, space.high, log=space.log)
