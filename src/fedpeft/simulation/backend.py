"""Which backend computes the rounds of a run; all give the same result within float tolerance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from fedpeft.client import Pipeline
from fedpeft.errors import ConfigError
from fedpeft.protocol.aggregate import Partial
from fedpeft.simulation.fused import run_fused
from fedpeft.simulation.sequential import run_sequential
from fedpeft.simulation.vmap import run_vmap
from fedpeft.simulation.work import Work
from fedpeft.training.config import TrainingConfig

Backend = Literal["fused", "vmap", "sequential"]
BACKENDS: dict[Backend, Callable[[Work], Partial]] = {
    "fused": run_fused,
    "vmap": run_vmap,
    "sequential": run_sequential,
}


def choose(
    asked: Backend | Literal["auto"], training: TrainingConfig, pipeline: Pipeline
) -> Backend:
    """Return the backend to use: the fastest that the settings allow, or the one asked for.

    Raises
    ------
    ConfigError
        If there is no such backend, or `fused` is asked for where clients' changes are needed one
        by one.
    """
    if asked not in ("auto", *get_args(Backend)):
        raise ConfigError(f"backend {asked!r} must be auto, fused, vmap or sequential")
    obstacles = [
        reason
        for holds, reason in (
            (training.payload_steps > 1, "clients take more than one payload step"),
            (training.payload_optimizer.kind != "sgd", "the payload step is not SGD"),
            (pipeline.per_client, "each client's update is encoded or transformed on its own"),
        )
        if holds
    ]
    if asked == "auto":
        return "vmap" if obstacles else "fused"
    if asked == "fused" and obstacles:
        raise ConfigError(f"backend 'fused' cannot be used because {obstacles[0]}; use 'vmap'")
    return asked
