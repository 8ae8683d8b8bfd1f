"""A federated run on one machine: a population of clients, and backends that compute rounds."""

from fedpeft.simulation.simulation import RoundResult, RunOptions, Simulation

__all__ = ["RoundResult", "RunOptions", "Simulation"]
