"""A federated run on one machine: a population of clients, and backends that compute rounds."""

from fedpeft.simulation.problem import no_user_vector
from fedpeft.simulation.simulation import RoundResult, RunOptions, Simulation

__all__ = ["RoundResult", "RunOptions", "Simulation", "no_user_vector"]
