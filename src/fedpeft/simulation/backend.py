"""Which backend a run uses; all give the same result within float tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from fedpeft.errors import ConfigError
from fedpeft.simulation.cohort import Cohort
from fedpeft.simulation.fused import run_shared
from fedpeft.simulation.problem import LocalProblem
from fedpeft.simulation.sequential import run_loop
from fedpeft.simulation.update import Update, on_mean
from fedpeft.simulation.vmap import run_stacked
from fedpeft.tensors import Tensors
from fedpeft.training.config import TrainingConfig
from fedpeft.transforms import UpdateTransform

Backend = Literal["fused", "vmap", "sequential"]


def choose(
    asked: Backend | Literal["auto"],
    training: TrainingConfig,
    transforms: Sequence[UpdateTransform],
) -> Backend:
    """Return the backend to use.

    Raises
    ------
    ConfigError
        If `fused` is asked for where clients' updates are needed one by one.
    """
    obstacles = [
        reason
        for holds, reason in (
            (training.payload_steps > 1, "clients take more than one payload step"),
            (training.payload_optimizer.kind != "sgd", "the payload step is not SGD"),
            (bool(transforms), "each client's update is transformed on its own"),
        )
        if holds
    ]
    if asked == "auto":
        return "vmap" if obstacles else "fused"
    if asked == "fused" and obstacles:
        raise ConfigError(f"backend 'fused' cannot be used because {obstacles[0]}; use 'vmap'")
    return asked


def run_round(
    backend: Backend,
    problem: LocalProblem,
    local: Tensors,
    cohort: Cohort,
    transforms: Sequence[UpdateTransform],
) -> Update:
    """Run one round under `backend`; `local` is updated in place."""
    if backend == "fused":
        return run_shared(problem, local, cohort)
    run = run_stacked if backend == "vmap" else run_loop
    update = run(problem, local, cohort, transforms)
    return replace(update, change=on_mean(transforms, update.change, len(cohort)))
