"""Which execution plan a run uses; all give the same result within float tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from fedpeft.errors import ConfigError
from fedpeft.federation.cohort import Cohort
from fedpeft.federation.config import TrainingConfig
from fedpeft.federation.local import LocalProblem
from fedpeft.federation.loop import run_loop
from fedpeft.federation.scoring import Tensors
from fedpeft.federation.shared import run_shared
from fedpeft.federation.stacked import run_stacked
from fedpeft.federation.transforms import UpdateTransform
from fedpeft.federation.update import Update, on_mean

Plan = Literal["shared", "stacked", "loop"]


def choose(
    asked: Plan | Literal["auto"], training: TrainingConfig, transforms: Sequence[UpdateTransform]
) -> Plan:
    """Return the plan to use.

    Raises
    ------
    ConfigError
        If `shared` is asked for where clients' updates are needed one by one.
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
        return "stacked" if obstacles else "shared"
    if asked == "shared" and obstacles:
        raise ConfigError(f"plan 'shared' cannot be used because {obstacles[0]}; use 'stacked'")
    return asked


def run_round(
    plan: Plan,
    problem: LocalProblem,
    local: Tensors,
    cohort: Cohort,
    transforms: Sequence[UpdateTransform],
) -> Update:
    """Run one round under `plan`; `local` is updated in place."""
    if plan == "shared":
        return run_shared(problem, local, cohort)
    run = run_stacked if plan == "stacked" else run_loop
    update = run(problem, local, cohort, transforms)
    return replace(update, change=on_mean(transforms, update.change, len(cohort)))
