"""What a strategy can tell apart: distinct corrections, their rank, collisions of items."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fedpeft.adapters import AdapterConfig, ItemEmbedding
from fedpeft.adapters.full import FullConfig
from fedpeft.adapters.hash import HashConfig
from fedpeft.adapters.lora import LoRAConfig
from fedpeft.adapters.rq import RQConfig
from fedpeft.cost.strategy import Scale
from fedpeft.seeding import torch_rng

SAMPLE = 2048
"""Items whose corrections the rank is taken of."""


@dataclass(frozen=True)
class Capacity:
    """What corrections of the item table a strategy can express.

    Attributes
    ----------
    parameters
        Values it trains.
    reachable
        Choices of rows an item can be given, which bounds distinct corrections: sets where rows are
        averaged, else sequences; None where every item has a row of its own, or the adapter is not
        known here.
    expected_distinct
        Distinct choices among the items if rows are drawn at random; n where every item has its
        own.
    rank
        Upper bound on the rank of the table of corrections.
    """

    parameters: int
    reachable: int | None
    expected_distinct: float | None
    rank: int | None


@dataclass(frozen=True)
class Choices:
    """The choices of rows that the items of a real module have.

    Attributes
    ----------
    distinct
        Different ones.
    alone
        Items whose choice no other item has.
    """

    distinct: int
    alone: int


def capacity(config: AdapterConfig, parameters: int, scale: Scale) -> Capacity:
    """Return what an adapter of these settings can express."""
    n, k = scale.items, scale.dim
    match config:
        case FullConfig():
            return Capacity(parameters, None, n, min(n, k))
        case LoRAConfig():
            return Capacity(parameters, None, n, min(n, k, config.rank))
        case HashConfig():
            d, h = config.rows, config.hashes
            if _ordered(config):
                return Capacity(parameters, d**h, expected_draws(n, d**h), min(n, k, d))
            reachable = math.comb(d + h - 1, h)
            return Capacity(parameters, reachable, expected_sets(n, d, h), min(n, k, d))
        case RQConfig():
            d, levels = config.codes, config.levels
            # each level adds up to one, which takes away a dimension from all levels but one
            rank = min(n, k, levels * (d - 1) + 1)
            return Capacity(parameters, d**levels, expected_draws(n, d**levels), rank)
        case _:
            return Capacity(parameters, None, None, None)


def _ordered(config: AdapterConfig) -> bool:
    """Return whether the order of an item's rows matters, as it does unless they are averaged."""
    return not (isinstance(config, HashConfig) and config.pooling == "mean")


def expected_draws(items: int, cells: float, share: float = 1.0) -> float:
    """Return the expected number of cells that are hit, when `share` of the draws go to them.

    Each of `cells` cells is hit with the same chance; ``cells * (1 - (1 - share / cells) ** n)``.
    """
    chance = share / cells
    if chance >= 1:
        return cells if items else 0.0
    return -cells * math.expm1(items * math.log1p(-chance))


def expected_sets(items: int, rows: int, hashes: int) -> float:
    """Return the expected number of distinct multisets of rows, h drawn uniformly for each item."""
    total = 0.0
    for parts in _partitions(hashes, hashes):
        if len(parts) > rows:
            continue
        sets = math.comb(rows, len(parts)) * _arrangements(parts)
        orders = math.factorial(hashes) // math.prod(math.factorial(part) for part in parts)
        total += expected_draws(items, sets, sets * orders / rows**hashes)
    return total


def _partitions(total: int, largest: int) -> Iterator[tuple[int, ...]]:
    """Yield the ways to write `total` as a sum, parts not growing."""
    if total == 0:
        yield ()
    for part in range(min(total, largest), 0, -1):
        for rest in _partitions(total - part, part):
            yield (part, *rest)


def _arrangements(parts: tuple[int, ...]) -> int:
    """Return in how many ways repeated counts can be given to distinct rows."""
    same = math.prod(math.factorial(parts.count(part)) for part in set(parts))
    return math.factorial(len(parts)) // same


def choices(item: ItemEmbedding) -> Choices:
    """Return how many items of a module can be told apart by their rows."""
    n = item.num_embeddings
    shared = [
        index
        for name, index in item.lookups(torch.arange(n)).items()
        if name not in item.item_indexed
    ]
    if not shared:
        return Choices(n, n)
    index = torch.cat(shared, dim=1)
    return _distinct(index if _ordered(item.config) else index.sort(dim=1).values)


@torch.no_grad()
def rank(item: ItemEmbedding, seed: int) -> int:
    """Return the rank of the corrections of up to `SAMPLE` items, all tensors drawn at random.

    The module's parameters are overwritten.
    """
    rng = torch_rng(seed, "cost", "rank")
    for parameter in item.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=rng))
    some = torch.randperm(item.num_embeddings, generator=rng)[:SAMPLE]
    base = item.base_rows(some)
    corrections = item(some).double() - (0 if base is None else base.double())
    # sums in float32 leave noise of about 1e-7 of the largest singular value
    return int(torch.linalg.matrix_rank(corrections, rtol=1e-5))


def _distinct(index: Tensor) -> Choices:
    """Return how many different rows an index, int64 (n, w), has."""
    size = int(index.max()) + 1
    if size ** index.shape[1] < 2**63:  # one number for each row: much faster to sort
        keys = index[:, 0]
        for column in index[:, 1:].unbind(1):
            keys = keys * size + column
        _, counts = torch.unique(keys, return_counts=True)
    else:
        _, counts = torch.unique(index, dim=0, return_counts=True)
    return Choices(len(counts), int((counts == 1).sum()))
