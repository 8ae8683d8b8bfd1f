"""Run folders opened again: the same data, and the model at its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedpeft.data import Dataset
from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.evaluation import Holdout, Report, evaluate
from fedpeft.experiment.assemble import Prepared, Stage, build, prepare
from fedpeft.experiment.folder import RunFolder
from fedpeft.experiment.run import load_checkpoint
from fedpeft.simulation import RunOptions, Simulation


def reopen(
    path: Path | str,
    device: str = "auto",
    stage: Stage = lambda _: None,
    *,
    data: Dataset | None = None,
) -> tuple[Prepared, Simulation]:
    """Load a run folder's data and bring its model to the checkpoint.

    Parameters
    ----------
    data
        The data, where they were given to the run in Python.

    Raises
    ------
    ArtifactError
        If `path` is no run folder, has no checkpoint, or its data changed since.
    """
    folder = with_checkpoint(path)
    config = replace(folder.config(), dataset=data)
    prepared = prepare(config, stage=stage)
    options = RunOptions(device=device)
    simulation = build(config, prepared.split, prepared.items, options)
    load_checkpoint(simulation, folder, prepared)
    return prepared, simulation


def evaluate_run(prepared: Prepared, simulation: Simulation, part: Holdout) -> Report:
    """Evaluate a reopened run on one part."""
    scorer = simulation.scorer(prepared.split.before(part))
    return evaluate(scorer, prepared.split, part)


def with_checkpoint(path: Path | str) -> RunFolder:
    """Open a run folder; raises `ArtifactError` where it is none, or has no checkpoint."""
    folder = RunFolder.open(path)
    if not folder.checkpoint.exists():
        raise ArtifactError(f"{path} has no checkpoint yet; resume it with --resume {path}")
    return folder


def index_of(users: Sequence[str], user: str, run: Path) -> int:
    """Return the index of a user; raises `ConfigError`, which tells nothing of the others."""
    try:
        return list(users).index(user)
    except ValueError:
        raise ConfigError(f"there is no user {user!r} in {run}") from None
