"""The search of one combination of labels: a study of optuna, and the runs of its trials."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from fedpeft.config import merge
from fedpeft.errors import ConfigError
from fedpeft.records import Result
from fedpeft.sweep.cell import Cell, Labels
from fedpeft.sweep.folder import Job, SweepFolder
from fedpeft.sweep.grid import Grid, nested
from fedpeft.sweep.journal import import_optuna
from fedpeft.sweep.space import rounded, suggest

OBJECTIVE = "ndcg@10"
"""On validation, mean over the seeds; the test part is not read."""


@dataclass(frozen=True)
class Trial:
    """A trial that has ended well.

    Attributes
    ----------
    value
        Its NDCG@10 on validation, mean over the seeds.
    folders
        Its run folders, one per seed.
    """

    settings: Mapping[str, Any]
    value: float
    folders: Sequence[Path]


@dataclass(frozen=True)
class Found:
    """What the search for one combination of labels has found.

    Attributes
    ----------
    first
        The trial with the values of ``search.start``, where there are some.
    trials
        How many have ended well.
    """

    labels: Labels
    best: Trial
    first: Trial | None
    trials: int


class Study:
    """One combination of labels; its trials so far are taken up again.

    A study is one of its settings, keys, seeds and ranking: what was tried with others is no trial.

    Attributes
    ----------
    chosen
        Whether it is to have further trials.
    left
        Trials that it may still be asked for; failed ones of earlier attempts do not count.
    open
        The runs of each trial that is under way.
    cells
        Those of all its trials so far.
    took
        Seconds of each trial that this object asked for and that has ended.
    """

    def __init__(
        self,
        grid: Grid,
        labels: Labels,
        settings: Mapping[str, Any],
        folder: SweepFolder,
        storage: Any,
        *,
        chosen: bool,
    ) -> None:
        assert grid.file.search is not None
        self.labels, self.chosen = labels, chosen
        self._grid, self._base, self._folder = grid, settings, folder
        self._config = grid.file.search
        self._spaces, self._start = self._config.spaces(), dict(self._config.start)
        optuna = import_optuna()
        states = optuna.trial.TrialState
        self._failed, self._waiting, self._complete = states.FAIL, states.WAITING, states.COMPLETE
        self._study = optuna.create_study(
            storage=storage, study_name=self._name(), direction="maximize", load_if_exists=True
        )
        trials = self._study.trials
        # another seed at each start: the same would suggest the first settings again
        seed = self._config.seed + 1000 * len(trials)
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        self.open: dict[int, list[Job]] = {}
        self.cells: list[Cell] = []
        self.took: list[float] = []
        self._asked: dict[int, float] = {}
        self._runs: dict[int, list[Job]] = {}
        for trial in trials:
            self._take_up(trial)
        self.left = self._config.trials - sum(
            trial.state not in (self._failed, self._waiting) for trial in trials
        )
        if self._start and not any(t.state == self._waiting or self._begins(t) for t in trials):
            self._study.enqueue_trial(self._start)

    def _name(self) -> str:
        asked = {
            "settings": self._base,
            "keys": self._config.keys,
            "seeds": self._grid.file.seeds,
        }
        if self._config.ranking != "sampled":  # all were, before there was a choice
            asked["ranking"] = self._config.ranking
        return json.dumps([self.labels, asked], sort_keys=True)

    def _take_up(self, trial: Any) -> None:
        """Take up a trial of an earlier attempt."""
        if trial.state == self._waiting:
            return
        # without all its settings the sweep was killed while it was asked for
        complete = set(trial.params) == set(self._spaces)
        jobs = self._jobs(trial) if complete else None
        if trial.state.is_finished():
            return
        if jobs is None:
            self._study.tell(trial.number, state=self._failed)
        else:
            self.open[trial.number] = jobs

    def ask(self) -> list[Job] | None:
        """Begin a trial; return its runs, or None where its settings are none of a run together."""
        self.left -= 1
        trial = self._study.ask()
        for key, space in self._spaces.items():
            suggest(trial, key, space)
        jobs = self._jobs(trial)
        if jobs is None:
            self._study.tell(trial.number, state=self._failed)
        else:
            self.open[trial.number] = jobs
            self._asked[trial.number] = time.monotonic()
        return jobs

    def settle(self) -> int:
        """Tell the study of trials whose runs have all ended; return how many."""
        count = 0
        for number, jobs in list(self.open.items()):
            states = [self._folder.status(job) for job in jobs]
            if not all(state in ("done", "failed") for state in states):
                continue
            count += 1
            del self.open[number]
            if number in self._asked:
                self.took.append(time.monotonic() - self._asked[number])
            if "failed" in states:
                self._study.tell(number, state=self._failed)
            else:
                self._study.tell(number, mean(objective(job, self._config.ranking) for job in jobs))
        return count

    def found(self) -> Found | None:
        """Return what was found; None where no trial has ended well."""
        ended = [trial for trial in self._study.trials if trial.state == self._complete]
        if not ended:
            return None
        first = next((self._ended(trial) for trial in ended if self._begins(trial)), None)
        return Found(self.labels, self._ended(self._study.best_trial), first, len(ended))

    @property
    def begun(self) -> bool:
        """Return whether it has had a trial."""
        return bool(self._runs)

    def _ended(self, trial: Any) -> Trial:
        folders = [job.folder for job in self._runs[trial.number]]
        return Trial(self._values(trial), trial.value, folders)

    def _begins(self, trial: Any) -> bool:
        """Return whether a trial has the values of the first one, and has not failed."""
        same = bool(self._start) and trial.params == self._start
        return same and trial.state != self._failed

    def _jobs(self, trial: Any) -> list[Job] | None:
        """Return the runs of a trial; None where its settings are none of a run together."""
        values = self._values(trial)
        try:
            cells = [
                trial_cell(self._grid, self.labels, self._base, values, seed)
                for seed in self._grid.file.seeds
            ]
        except ConfigError:
            return None
        self.cells += cells
        jobs = self._runs[trial.number] = [self._folder.job(cell) for cell in cells]
        return jobs

    def _values(self, trial: Any) -> dict[str, Any]:
        """Return a trial's settings: those of the first trial as they are, others rounded."""
        if trial.params == self._start:
            return self._start
        return {key: rounded(trial.params[key], space) for key, space in self._spaces.items()}


def objective(job: Job, ranking: str) -> float:
    """Return what a search maximises of a finished run."""
    scores: Mapping[str, float] = getattr(Result.read(job.folder).metrics.validation, ranking)
    return scores[OBJECTIVE]


def trial_cell(
    grid: Grid, labels: Labels, settings: Mapping[str, Any], values: Mapping[str, Any], seed: int
) -> Cell:
    """Return the cell with searched values, by dotted key; raises `ConfigError` as `Grid.cell`."""
    tables = merge(settings, {"seed": seed, "evaluation": {"test": False}})
    for key, value in values.items():
        tables = merge(tables, nested(key, value))
    shown = {key: _label(value) for key, value in values.items()}
    return grid.cell({**labels, **shown}, tables)


def _label(value: Any) -> str:
    """Return what tables and messages call a value; four digits of a number can be read."""
    return json.dumps(float(f"{value:.4g}") if isinstance(value, float) else value)
