"""Operations and milliseconds of the item embedding: one item vector, one training step.

What a backbone does with item vectors comes on top and is the same for every strategy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor

from fedpeft.adapters import ItemEmbedding
from fedpeft.cost.counter import Operations, counted
from fedpeft.cost.strategy import Scale, Strategy, shapes_only
from fedpeft.seeding import torch_rng
from fedpeft.simulation.vmap import Payloads

DRAWS = 64
"""Id batches taken in turn while timing, so that one batch does not stay in the cache."""


@dataclass(frozen=True)
class Computation:
    """Counted operations.

    Attributes
    ----------
    vector
        One item vector, forward.
    step
        One payload step of a client on the items it touches: vectors, gradients, and one
        subtraction for each value that moves.
    """

    vector: Operations
    step: Operations


@dataclass(frozen=True)
class Timing:
    """Measured milliseconds, medians on one thread of the CPU.

    Attributes
    ----------
    vector_ms, batch_ms
        Forward of one item; of the items a client touches.
    step_ms
        One payload step on them.
    """

    vector_ms: float
    batch_ms: float
    step_ms: float


def computation(strategy: Strategy, scale: Scale) -> Computation:
    """Return the operations of a strategy."""
    touched = min(scale.touched, scale.items)
    with shapes_only():
        item = strategy.sketch(scale).item
        with counted() as vector, torch.no_grad():
            item(torch.zeros(1, dtype=torch.int64))
        with counted() as step:
            train_step(item, torch.zeros(touched, dtype=torch.int64))
    return Computation(vector.operations, step.operations)


def train_step(item: ItemEmbedding, ids: Tensor) -> None:
    """Take one payload step of one client, on the copies that the vmap backend makes.

    Parameters
    ----------
    ids
        int64 (b,): the items the client touches.  The gradient that reaches their vectors, the
        backbone's work, is taken to be there.
    """
    payload = Payloads(item, {}, ids.unsqueeze(0))
    vectors = payload.table()
    vectors.backward(vectors.detach())
    with torch.no_grad():
        for leaf in payload.leaves.values():
            assert leaf.grad is not None  # every tensor of an adapter enters its vectors
            leaf -= leaf.grad


def timing(item: ItemEmbedding, scale: Scale, seconds: float = 0.1) -> Timing:
    """Return how long the item embedding takes.

    Parameters
    ----------
    seconds
        How long each of the three measurements goes on.
    """
    rng = torch_rng(scale.seed, "cost", "ids")
    n = item.num_embeddings
    draws = torch.randint(n, (DRAWS, min(scale.touched, n)), generator=rng)

    def forward(ids: Tensor) -> None:
        with torch.no_grad():
            item(ids)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return Timing(
            vector_ms=_median_ms(forward, draws[:, :1], seconds),
            batch_ms=_median_ms(forward, draws, seconds),
            step_ms=_median_ms(lambda ids: train_step(item, ids), draws, seconds),
        )
    finally:
        torch.set_num_threads(threads)


def _median_ms(call: Callable[[Tensor], None], draws: Tensor, seconds: float) -> float:
    """Return the median over single calls, in milliseconds; the first round of calls warms up."""
    took: list[float] = []
    batches = cycle(draws.unbind())
    end = time.perf_counter() + seconds
    while len(took) < 2 * DRAWS or time.perf_counter() < end:
        ids = next(batches)
        start = time.perf_counter()
        call(ids)
        took.append(time.perf_counter() - start)
    return 1000 * statistics.median(took[DRAWS:])
