"""What a client keeps between rounds; none of it ever leaves the client."""

from __future__ import annotations

from dataclasses import dataclass

from fedpeft.data.dataset import Floats, Ints
from fedpeft.tensors import Tensors

NO_VERSION = -1
"""The version of a client that has not downloaded any base."""


@dataclass(frozen=True, eq=False)
class ClientState:
    """One client between two rounds.

    Attributes
    ----------
    id
        The number that names its streams of random numbers.
    history
        int64 (L,): its train items, oldest first.
    local
        name -> float32 (...): its local parameters, and buffers of its own.
    version
        The version of the base it holds; `NO_VERSION` before its first download.
    weights
        float32 (L,): how much each train item counts, whatever its age; None: all count 1.
    """

    id: int
    history: Ints
    local: Tensors
    version: int = NO_VERSION
    weights: Floats | None = None
