"""One round for the tests of this folder: its sum, of some clients, and one device after it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedpeft.backbones import Backbone
from fedpeft.client import Pipeline
from fedpeft.protocol.aggregate import Partial
from fedpeft.server.admission import Admission
from fedpeft.simulation import Simulation
from fedpeft.simulation.backend import BACKENDS
from fedpeft.simulation.cohort import Cohort
from fedpeft.transforms import UpdateTransform

BACKEND_NAMES = ["sequential", "vmap", "fused"]


def run_round(simulation: Simulation, users: Sequence[int] | None = None) -> Partial:
    """Return the sum of the next round's uploads, of some of its clients only if `users` is given.

    Local parameters move; the server stays where it is.
    """
    work, _ = simulation._work()
    if users is not None:
        work = replace(work, cohort=_only(work.cohort, users))
    return BACKENDS[simulation.backend](work)


def _only(cohort: Cohort, users: Sequence[int]) -> Cohort:
    keep = [place for place, row in enumerate(cohort.rows) if row in users]
    parts = [cohort.of(place) for place in keep]
    return replace(
        cohort,
        rows=cohort.rows[keep],
        ids=cohort.ids[keep],
        lengths=cohort.lengths[keep],
        items=np.concatenate([*parts, cohort.items[:0]]),
    )


def mean(total: Partial) -> dict[str, torch.Tensor]:
    """Return the weighted mean of the clients' changes."""
    return {name: tensor / total.weight for name, tensor in total.sum.items()}


def assert_rounded_alike(one: Partial, two: Partial, tolerance: float | None = None) -> None:
    """Raise unless two sums of rounded changes are equal but for values on the edge of rounding.

    Where nothing is rounded, `tolerance` is the largest difference allowed.
    """
    assert (one.clients, one.rejected, one.weight) == (two.clients, two.rejected, two.weight)
    assert two.loss == pytest.approx(one.loss, abs=1e-5, rel=1e-5)
    assert one.sum.keys() == two.sum.keys()
    found = mean(two)
    for name, change in mean(one).items():
        gap = (found[name] - change).abs()
        size = float(change.abs().max())
        assert gap.max() <= (2 * size / 127 + 1e-7 if tolerance is None else tolerance), name
        assert (gap > 1e-5 * (size + 1e-2)).float().mean() < 0.05, name


def insert(simulation: Simulation, *transforms: UpdateTransform) -> Simulation:
    """Return the simulation with transforms before those of its settings."""
    simulation.pipeline = Pipeline(simulation.task, transforms)
    simulation.admission = Admission(simulation.task, simulation.pipeline.transforms)
    return simulation


def device(simulation: Simulation, user: int) -> Backbone:
    """Return the module that one client holds now, with its own local parameters."""
    model = copy.deepcopy(simulation.final_backbone())
    for name in model.local:
        model.get_parameter(name).data.copy_(simulation.population.local[name][user])
    for name in model.kept:
        model.get_buffer(name).copy_(simulation.population.local[name][user])
    return model
