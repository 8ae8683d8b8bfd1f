"""The backends give the same result: payload, local parameters, loss, bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from fedpeft.simulation import Simulation
from fedpeft.testing.toy import Toy

Outcome = dict[str, Tensor]


def backends_for(toy: Toy) -> tuple[str, ...]:
    """Return the fast backends that the run's settings allow."""
    return ("vmap", "fused") if toy.simulation().backend == "fused" else ("vmap",)


def run(toy: Toy, backend: str, rounds: int) -> Outcome:
    """Return everything a run under `backend` leaves behind."""
    simulation = toy.simulation(backend)
    losses, spent = [], []
    for _ in range(rounds):
        result = simulation.step()
        losses.append(result.loss)
        spent.append(result.entry.bytes_per_client)
    return {
        **state(simulation),
        "loss": torch.tensor(losses),
        "bytes": torch.tensor(spent),
    }


def state(simulation: Simulation) -> Outcome:
    """Return copies of the payload, the local parameters and the item table."""
    payload = {
        f"payload.{name}": tensor.clone() for name, tensor in simulation.state.payload.items()
    }
    kept = simulation.population.local
    local = {f"local.{name}": tensor.clone() for name, tensor in kept.items()}
    return {**payload, **local, "items": simulation.item_vectors()}


def assert_backends_agree(toy: Toy, rounds: int = 4, tolerance: float = 5e-5) -> None:
    """Raise `AssertionError` unless every fast backend ends where the reference loop does.

    Parameters
    ----------
    tolerance
        Largest difference allowed, absolute and relative.  Backends add float32 numbers in
        different orders.  Adam divides by the size of a gradient, so it blows rounding up wherever
        gradients are tiny: give its settings an `eps` well above rounding (1e-3) then.
    """
    expected = run(toy, "sequential", rounds)
    for backend in backends_for(toy):
        found = run(toy, backend, rounds)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            gap = (found[name] - tensor).abs()
            allowed = tolerance * (1 + tensor.abs())
            assert bool((gap <= allowed).all()), (
                f"backend {backend} is up to {float(gap.max()):.2g} away from the loop in {name}"
            )
