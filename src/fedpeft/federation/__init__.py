"""Federated training: cohorts, local training, the server, the ledger, rounds, checkpoints."""

from fedpeft.federation.config import OptimizerConfig, TrainingConfig
from fedpeft.federation.local import no_readout
from fedpeft.federation.recipes import Recipe, adapter_defaults, recipe_defaults
from fedpeft.federation.simulation import RoundResult, RunOptions, Simulation

__all__ = [
    "OptimizerConfig",
    "Recipe",
    "RoundResult",
    "RunOptions",
    "Simulation",
    "TrainingConfig",
    "adapter_defaults",
    "no_readout",
    "recipe_defaults",
]
