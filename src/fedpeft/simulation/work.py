"""What a backend is given to compute one round of a cohort."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedpeft.client import Pipeline, Replica
from fedpeft.protocol.aggregate import Partial
from fedpeft.protocol.messages import (
    Broadcast,
    Upload,
)
from fedpeft.protocol.traffic import Listener
from fedpeft.server.admission import Admission
from fedpeft.simulation.cohort import Cohort
from fedpeft.simulation.population import Population
from fedpeft.simulation.problem import LocalProblem
from fedpeft.tensors import Tensors


@dataclass(frozen=True, eq=False)
class Work:
    """One round of a cohort.

    Attributes
    ----------
    problem
        The local problem on the replica's module, which holds the payload as received.
    replica
        The model at the version of the broadcast.
    pipeline
        At the round of the broadcast.
    admission
        Which uploads enter the sum.
    population
        Every client's state; a backend updates those of the cohort in place.
    cohort
        Who takes part, and what they train on.
    traffic
        Is told the length of every upload.
    message
        The broadcast, for backends that go through bytes.
    """

    problem: LocalProblem
    replica: Replica
    pipeline: Pipeline
    admission: Admission
    population: Population
    cohort: Cohort
    traffic: Listener
    message: Broadcast | None

    def empty(self) -> Partial:
        """Return the sum of nobody."""
        shapes = self.pipeline.uploads.shapes
        device = self.replica.device
        return Partial.empty({n: torch.zeros(s, device=device) for n, s in shapes.items()})

    def count_uploads(self) -> None:
        """Tell the traffic log the exact length of every client's upload, without making it."""
        uploads = self.pipeline.uploads
        if uploads.by_rows:
            touched = self.cohort.distinct(self.problem.task.n_items)
        else:
            touched = np.zeros(len(self.cohort), np.int64)
        for count, clients in zip(*np.unique(touched, return_counts=True), strict=True):
            self.traffic.sent("upload", int(clients) * Upload.size(uploads.size(int(count))))


def sound(losses: Tensor, change: Tensors) -> Tensor:
    """Return which of C clients have a finite loss and a finite change, bool (C,)."""
    flat = [tensor.unsqueeze(-1).flatten(1) for tensor in change.values()]
    return torch.stack([losses.isfinite(), *(t.isfinite().all(1) for t in flat)]).all(0)
