"""One run, from configuration to run folder: rounds, evaluations, checkpoints, the final result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from fedpeft.data import Dataset, Split
from fedpeft.data.describe import told
from fedpeft.errors import ArtifactError, Interrupted
from fedpeft.evaluation import (
    Holdout,
    Report,
    evaluate,
    evaluate_sampled,
    rank_users,
)
from fedpeft.experiment.assemble import Prepared, build, prepare
from fedpeft.experiment.config import RunConfig
from fedpeft.experiment.folder import RunFolder
from fedpeft.experiment.outcome import data_files, result_of, write_adapter
from fedpeft.experiment.signals import StopRequest
from fedpeft.experiment.users import users_of
from fedpeft.records import Evaluation, Scores, TrafficRound
from fedpeft.records.base import check
from fedpeft.records.checkpoint import Notes
from fedpeft.simulation import RoundResult, RunOptions, Simulation, checkpoint


class Watcher(Protocol):
    """Someone who is told how a run goes."""

    def stage(self, text: str) -> None:
        """A stage begins."""
        ...

    def started(self, simulation: Simulation) -> None:
        """Training begins, or goes on, at ``simulation.round``."""
        ...

    def round(self, result: RoundResult) -> None:
        """A round is over."""
        ...

    def evaluated(self, round_number: int, report: Report) -> None:
        """Validation was evaluated after so many rounds."""
        ...

    def note(self, text: str) -> None:
        """Something happened that whoever reads the results should know."""
        ...


@dataclass(frozen=True)
class Schedule:
    """When a run writes checkpoints."""

    checkpoint_every: int = 100
    """Rounds between checkpoints; a killed process loses at most these."""


def start(
    config: RunConfig,
    out: Path | str,
    options: RunOptions,
    watcher: Watcher,
    schedule: Schedule,
) -> dict[str, Any]:
    """Run a configuration into a new run folder; return the result.

    Raises
    ------
    Interrupted
        If SIGINT, SIGTERM or SIGHUP asked for an end; a checkpoint was written first.
    OSError
        If the folder cannot be written, for example because the disk is full.
    FedpeftError
        As loading, pretraining, building and training do.
    """
    # what can be refused at once is, before data are read for minutes
    RunFolder.require_new(out)
    options.torch_device()
    prepared = prepare(config, stage=watcher.stage)
    asked, config = config, config.resolved(prepared.split)
    simulation = build(config, prepared.split, prepared.items, options)
    for sentence in told(prepared.dataset):
        watcher.note(sentence)
    if simulation.task.layout.reveals:
        watcher.note(
            f"training.upload = {config.training.upload!r} shows a server that sees single uploads "
            f"{simulation.task.layout.reveals}; only 'dense' can be summed before anyone sees it"
        )
    # only now: what cannot run leaves nothing behind
    with RunFolder(out).locked():
        folder = RunFolder.create(out, config, asked)
        return _carry_on(config, folder, prepared, simulation, watcher, schedule, seconds=0.0)


def resume(
    path: Path | str,
    options: RunOptions,
    watcher: Watcher,
    schedule: Schedule,
    *,
    config: RunConfig | None = None,
) -> dict[str, Any]:
    """Go on with an interrupted run from its checkpoint; return the result.

    Parameters
    ----------
    config
        The configuration as it was asked for, where the data lie elsewhere now or were given in
        Python; by default as in the folder.

    Raises
    ------
    ArtifactError
        If `path` is no run folder or in use, its checkpoint is corrupt, or its data changed since.
    """
    folder = RunFolder.open(path)
    with folder.locked():
        if folder.is_complete:
            raise ArtifactError(
                f"{path} is complete: it has a result.json, so nothing is left to run"
            )
        if config is not None and folder.asked() != config:
            folder.configure(replace(folder.config(), data=config.data), config)
        dataset = None if config is None else config.dataset
        return _resume(folder, dataset, options, watcher, schedule)


def _resume(
    folder: RunFolder,
    dataset: Dataset | None,
    options: RunOptions,
    watcher: Watcher,
    schedule: Schedule,
) -> dict[str, Any]:
    config = replace(folder.config(), dataset=dataset)
    options.torch_device()
    prepared = prepare(config, stage=watcher.stage)
    config = config.resolved(prepared.split)  # an earlier version left values open
    simulation = build(config, prepared.split, prepared.items, options)
    seconds = 0.0
    if folder.checkpoint.exists():  # else it was killed before its first one: begin again
        seconds = load_checkpoint(simulation, folder, prepared).seconds
    for lost in folder.rewind(simulation.round, _evaluations(config, simulation.round)):
        watcher.note(lost)
    folder.sweep()
    return _carry_on(config, folder, prepared, simulation, watcher, schedule, seconds)


def load_checkpoint(simulation: Simulation, folder: RunFolder, prepared: Prepared) -> Notes:
    """Bring a simulation to a run folder's checkpoint; return what was kept beside it.

    Raises
    ------
    ArtifactError
        If it is corrupt, or was made with other data or another configuration than there is now.
    """

    def accept(extra: Mapping[str, Any]) -> None:
        """Refuse what was made with other data or another model."""
        notes = accept_model(folder, extra)
        if notes.split != prepared.split.fingerprint:
            raise ArtifactError(
                f"{folder.path} was made with other data: its split is {notes.split[:12]}, "
                f"the data now give {prepared.split.fingerprint[:12]}"
            )

    return check(Notes, checkpoint.load(simulation, folder.checkpoint, accept), "the notes")


def accept_model(folder: RunFolder, extra: Mapping[str, Any]) -> Notes:
    """Return what was kept beside a checkpoint's state.

    Raises
    ------
    ArtifactError
        If it is malformed, or settings of the folder have changed since.
    """
    notes = check(Notes, extra, f"{folder.checkpoint}")
    for name, now in _model(folder.config()).items():
        # checkpoints of earlier versions do not know all tables
        if notes.model.get(name, now) != now:
            raise ArtifactError(
                f"the table {name} of {folder.path / 'config.toml'} was changed after the "
                f"checkpoint was written; it was {notes.model[name]}"
            )
    return notes


def _model(config: RunConfig) -> dict[str, Any]:
    """Return the tables, besides those a checkpoint compares itself, that must not change."""
    return {
        "backbone": config.backbone.to_dict(),
        "loss": config.loss.to_dict(),
        "items": config.items.model_dump(mode="json"),
    }


def _carry_on(
    config: RunConfig,
    folder: RunFolder,
    prepared: Prepared,
    simulation: Simulation,
    watcher: Watcher,
    schedule: Schedule,
    seconds: float,
) -> dict[str, Any]:
    """Train to the end, logging, evaluating and saving; then write the result."""
    began = time.perf_counter() - seconds
    split, rounds = prepared.split, config.training.rounds

    def save() -> None:
        _keep_items(prepared, folder)  # semantic IDs may have been trained since the start
        folder.flush()
        extra = {
            "seconds": time.perf_counter() - began,
            "split": split.fingerprint,
            "model": _model(config),
            "base": prepared.items.fingerprint,
            "backend": simulation.backend,
        }
        checkpoint.save(simulation, folder.checkpoint, extra)

    _keep_items(prepared, folder)
    for file in data_files(prepared.dataset):
        file.write(folder.path)
    watcher.started(simulation)
    with _saved_on_stop(save) as stop:
        while simulation.round < rounds:
            result = simulation.step()
            folder.traffic.add(TrafficRound(**asdict(result.entry)))
            watcher.round(result)
            if _evaluates(config, simulation.round):
                report = _watch(simulation, split)
                folder.metrics.add(
                    Evaluation(
                        round=simulation.round,
                        phase=simulation.state.phase,
                        validation=Scores(sampled=report.sampled, full=report.full),
                        train_loss=result.loss,
                        bytes_per_client=result.entry.bytes_per_client,
                        seconds=time.perf_counter() - began,
                    )
                )
                watcher.evaluated(simulation.round, report)
            if simulation.round % schedule.checkpoint_every == 0 and simulation.round < rounds:
                save()
            stop.check()
        simulation.require_learning()  # a run that ended in vain has no result
        save()
    watcher.stage("evaluating on test, once" if config.evaluation.test else "evaluating")
    seconds = time.perf_counter() - began
    parts: tuple[Holdout, ...] = (
        ("validation", "test") if config.evaluation.test else ("validation",)
    )
    ranks = {part: rank_users(simulation.scorer(split.before(part)), split, part) for part in parts}
    outcome = result_of(config, folder.asked(), prepared, simulation, ranks, seconds)
    write_adapter(simulation, folder.adapter)
    users_of(split, prepared.dataset.user_ids, ranks).write(folder.path)
    outcome.write(folder.path)
    return outcome.to_json()


def _evaluates(config: RunConfig, done: int) -> bool:
    """Return whether validation is evaluated after so many rounds."""
    return done % config.evaluation.every == 0 or done == config.training.rounds


def _evaluations(config: RunConfig, done: int) -> int:
    """Return how many evaluations so many rounds have."""
    return sum(_evaluates(config, number) for number in range(1, done + 1))


def _keep_items(prepared: Prepared, folder: RunFolder) -> None:
    """Write what was fitted on the items' texts, if anything was and as far as it is not there."""
    if prepared.items.model is not None:
        prepared.items.model.keep(folder.items)


def _watch(simulation: Simulation, split: Split) -> Report:
    """Evaluate on validation in the course of training, which ranks everything only if it is cheap.

    With a user_vector the scores of a whole catalogue are one product of matrices; else each is a
    network's, and they would take as long as the training (ml-1m: 22 million).
    """
    scorer = simulation.scorer(split.before("validation"))
    if simulation.replica.backbone.user_vector is None:
        return evaluate_sampled(scorer.listed, split)
    return evaluate(scorer, split)


@contextmanager
def _saved_on_stop(save: Callable[[], None]) -> Iterator[StopRequest]:
    """Turn SIGINT, SIGTERM and SIGHUP into a checkpoint after the round in progress."""
    with StopRequest() as stop:
        try:
            try:
                yield stop
            except OSError:  # a closed terminal also refuses what a watcher tells
                stop.check()
                raise
        except Interrupted:
            save()
            raise
