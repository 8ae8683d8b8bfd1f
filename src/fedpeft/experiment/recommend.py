"""What a finished or interrupted run is good for: evaluating it again, and recommending."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fedpeft.data import Dataset
from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.evaluation import Holdout, Report, evaluate
from fedpeft.experiment.assemble import Prepared, Stage, build, prepare
from fedpeft.experiment.folder import RunFolder
from fedpeft.experiment.run import load_checkpoint
from fedpeft.simulation import RunOptions, Simulation


@dataclass(frozen=True)
class Recommendation:
    """One recommended item."""

    rank: int
    item: str
    title: str
    score: float


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
    folder = RunFolder.open(path)
    if not folder.checkpoint.exists():
        raise ArtifactError(f"{path} has no checkpoint yet; resume it with --resume {path}")
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


def index_of(dataset: Dataset, user: str) -> int:
    """Return the index of a user; raises `ConfigError` where there is none of this id."""
    try:
        return list(dataset.user_ids).index(user)
    except ValueError:
        raise ConfigError(
            f"user {user!r} is not in {dataset.name}; its first users are "
            f"{', '.join(map(repr, dataset.user_ids[:3]))}"
        ) from None


def recommend(
    prepared: Prepared, simulation: Simulation, user: str, top: int
) -> list[Recommendation]:
    """Return the `top` items for a user, without those in the user's whole history.

    Raises
    ------
    ConfigError
        If the user is unknown or `top` is not positive.
    """
    if top < 1:
        raise ConfigError(f"--top must be at least 1, got {top}")
    dataset = prepared.dataset
    index = index_of(dataset, user)
    scores = simulation.scorer(dataset.histories)(torch.tensor([index]))[0].clone()
    scores[torch.from_numpy(dataset.histories.of(index))] = -torch.inf
    best = torch.topk(scores, min(top, int(scores.isfinite().sum())))
    return [
        Recommendation(
            rank + 1,
            dataset.catalogue.ids[item],
            dataset.catalogue.titles[item],
            float(scores[item]),
        )
        for rank, item in enumerate(best.indices.tolist())
    ]
