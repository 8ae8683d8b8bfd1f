"""One run, from configuration to run folder: rounds, evaluations, checkpoints, the final result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from fedpeft import __version__, adapters
from fedpeft.data.dataset import Split
from fedpeft.errors import ArtifactError, Interrupted
from fedpeft.evaluation import (
    Part,
    Ranks,
    Report,
    evaluate,
    evaluate_sampled,
    rank_users,
    report_of,
)
from fedpeft.experiment.assemble import Prepared, build, prepare
from fedpeft.experiment.config import RunConfig
from fedpeft.experiment.costs import run_costs
from fedpeft.experiment.floors import cached_floors
from fedpeft.experiment.folder import LOGS, RunFolder, commit
from fedpeft.experiment.signals import StopRequest
from fedpeft.experiment.users import write_users
from fedpeft.files import write_json, write_tensors
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


@dataclass(frozen=True)
class Schedule:
    """When a run writes checkpoints."""

    checkpoint_every: int = 100
    """Rounds between checkpoints; a killed process loses at most these."""


def start(
    config: RunConfig, out: Path, options: RunOptions, watcher: Watcher, schedule: Schedule
) -> dict[str, Any]:
    """Run a configuration into a new run folder; return the result.

    Raises
    ------
    Interrupted
        If SIGINT, SIGTERM or SIGHUP asked for an end; a checkpoint was written first.
    FedpeftError
        As loading, pretraining, building and training do.
    """
    # what can be refused at once is, before data are read for minutes
    RunFolder.require_new(out)
    options.torch_device()
    prepared = prepare(config, stage=watcher.stage)
    simulation = build(config, prepared.split, prepared.items, options)
    # only now: what cannot run leaves nothing behind
    folder = RunFolder.create(out, config)
    return _carry_on(config, folder, prepared, simulation, watcher, schedule, seconds=0.0)


def resume(path: Path, options: RunOptions, watcher: Watcher, schedule: Schedule) -> dict[str, Any]:
    """Go on with an interrupted run from its checkpoint; return the result.

    Raises
    ------
    ArtifactError
        If `path` is no run folder, its checkpoint is corrupt, or its data changed since.
    """
    folder = RunFolder.open(path)
    if folder.result.exists():
        raise ArtifactError(f"{path} is complete: it has a result.json, so nothing is left to run")
    config = folder.config()
    options.torch_device()
    prepared = prepare(config, stage=watcher.stage)
    simulation = build(config, prepared.split, prepared.items, options)
    seconds = 0.0
    if folder.checkpoint.exists():
        extra = load_checkpoint(simulation, folder, prepared)
        folder.rewind(extra["logs"])
        seconds = extra["seconds"]
    else:  # it was killed before its first checkpoint: begin again
        folder.rewind(dict.fromkeys(LOGS, 0))
    folder.sweep()
    return _carry_on(config, folder, prepared, simulation, watcher, schedule, seconds)


def load_checkpoint(
    simulation: Simulation, folder: RunFolder, prepared: Prepared
) -> dict[str, Any]:
    """Bring a simulation to a run folder's checkpoint; return what was kept beside it.

    Raises
    ------
    ArtifactError
        If it is corrupt, or was made with other data or another configuration than there is now.
    """

    def accept(extra: dict[str, Any]) -> None:
        """Refuse what was made with other data or another model."""
        if extra["split"] != prepared.split.fingerprint:
            raise ArtifactError(
                f"{folder.path} was made with other data: its split is {extra['split'][:12]}, "
                f"the data now give {prepared.split.fingerprint[:12]}"
            )
        for name, now in _model(folder.config()).items():
            # checkpoints of earlier versions do not know all tables
            if extra["model"].get(name, now) != now:
                raise ArtifactError(
                    f"the table {name} of {folder.path / 'config.toml'} was changed after the "
                    f"checkpoint was written; it was {extra['model'][name]}"
                )

    return checkpoint.load(simulation, folder.checkpoint, accept)


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
        _keep_items(prepared, folder)  # semantic codes may have been trained since the start
        extra = {
            "logs": folder.flush(),
            "seconds": time.perf_counter() - began,
            "split": split.fingerprint,
            "model": _model(config),
        }
        checkpoint.save(simulation, folder.checkpoint, extra)

    _keep_items(prepared, folder)
    watcher.started(simulation)
    with _saved_on_stop(save) as stop:
        while simulation.round < rounds:
            result = simulation.step()
            folder.log("ledger.jsonl", asdict(result.entry))
            watcher.round(result)
            if simulation.round % config.evaluation.every == 0 or simulation.round == rounds:
                report = _watch(simulation, split)
                folder.log(
                    "metrics.jsonl",
                    {
                        "round": simulation.round,
                        "phase": simulation.state.phase,
                        "validation": {"sampled": report.sampled, "full": report.full},
                        "train_loss": result.loss,
                        "bytes_per_client": result.entry.bytes_per_client,
                        "seconds": time.perf_counter() - began,
                    },
                )
                watcher.evaluated(simulation.round, report)
            if simulation.round % schedule.checkpoint_every == 0 and simulation.round < rounds:
                save()
            stop.check()
        save()
    watcher.stage("evaluating on test, once" if config.evaluation.test else "evaluating")
    seconds = time.perf_counter() - began
    parts: tuple[Part, ...] = ("validation", "test") if config.evaluation.test else ("validation",)
    ranks = {part: rank_users(simulation.scorer(split.before(part)), split, part) for part in parts}
    outcome = _result(config, prepared, simulation, ranks, seconds)
    write_adapter(simulation, folder.adapter)
    write_users(folder.users, split, prepared.dataset.user_ids, ranks)
    write_json(folder.result, outcome)
    return outcome


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


def _result(
    config: RunConfig,
    prepared: Prepared,
    simulation: Simulation,
    ranks: Mapping[Part, Ranks],
    seconds: float,
) -> dict[str, Any]:
    """Gather everything a reader of the run needs."""
    split, dataset = prepared.split, prepared.dataset
    floors = {}
    if config.evaluation.test:
        floors = cached_floors(
            split,
            centralised_mf=config.evaluation.centralised_floor,
            recency=config.training.recency,
        )
    return {
        "name": config.label,
        "config": config.to_dict(),
        "seed": config.seed,
        "commit": commit(),
        "made_by": f"fedpeft {__version__}",
        "split_fingerprint": split.fingerprint,
        "dataset": {
            "name": dataset.name,
            "users": dataset.n_users,
            "items": dataset.n_items,
            "interactions": len(dataset.histories.items),
            "counts": dict(dataset.counts),
        },
        "items": prepared.items.report,
        "metrics": {part: report_of(found, split, part).to_dict() for part, found in ranks.items()},
        "floors": floors,
        "cost": run_costs(config, dataset),
        "bytes": simulation.bytes_summary(),
        "rounds": simulation.round,
        "seconds": seconds,
        "backend": simulation.backend,
    }


def write_adapter(simulation: Simulation, folder: Path) -> None:
    """Write what a client needs to score: adapter, base, and shared backbone tensors."""
    backbone = simulation.final_backbone()
    adapters.save(backbone.item, folder)
    if backbone.item.base is not None:
        write_tensors(folder / "base.safetensors", {"base": backbone.item.base})
    shared = {name: p.detach() for name, p in backbone.shared().items()}
    if shared:
        write_tensors(folder / "backbone.safetensors", shared)
