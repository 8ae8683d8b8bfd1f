"""Hash embeddings: h universal hashes into one table of d rows, pooled (the paper's P-Hash).

Universal hashing after Carter and Wegman 1979; the weighted pooling is a squeeze-and-excitation
network (Hu et al. 2018) over the h rows, as FiBiNET applies it to embeddings.

Universal hashing promises few collisions on average over all functions.  On ids that follow each
other, as an item's do, some functions are far from that.  So functions are drawn until their
collisions are about as few as those of a random choice of rows.  What is drawn are integers; they,
and not the seed, are what travels and what is saved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from fedpeft.adapters.base import ItemContext, ItemEmbedding, adapters
from fedpeft.adapters.config import COMPRESS, AdapterConfig
from fedpeft.adapters.span import Span
from fedpeft.errors import ArtifactError
from fedpeft.seeding import torch_rng
from fedpeft.streams import mix

PRIME = 2**31 - 1  # Mersenne; a * id + b stays below 2**63 for ids below 2**31
DRAWS = 32
"""How often hash functions are drawn at most; then the best draw is taken."""


class HashConfig(AdapterConfig):
    """Settings of hash embeddings."""

    acting: ClassVar = {"init_std": COMPRESS}
    presets: ClassVar = {"newton": {"rows": 1024}}

    rows: int = Field(512, ge=1)
    """d, rows of the table; the payload is d * k values (plus the SENet's)."""
    hashes: int = Field(2, ge=1, le=16)
    """h, rows pooled per item."""
    pooling: Literal["mean", "senet"] = "mean"
    """How an item's h rows become one vector."""
    init_std: float = Field(0.1, gt=0)
    """Standard deviation of the table at the start in `compress` mode; `peft` starts at zero."""

    @property
    def linear(self) -> bool:
        return self.pooling == "mean"

    @property
    def spans(self) -> bool:
        return self.linear

    def unpack_subspace(self, data: bytes, n_items: int) -> dict[str, Tensor]:
        found = super().unpack_subspace(data, n_items)
        given = found.get("coefficients")
        whole = given is not None and given.dtype == torch.int64
        if given is None or not whole or not bool(((given >= 0) & (given < PRIME)).all()):
            raise ArtifactError(f"hash coefficients must be there, from 0 to {PRIME - 1}")
        return found

    @property
    def shares_rows(self) -> bool:
        return True

    @property
    def random_rows(self) -> bool:
        return True

    def drawn(self, items: int, rng: torch.Generator) -> dict[str, Tensor]:
        return {"coefficients": _draw(self, rng)}

    def label(self) -> str:
        pooling = "-SENet" if self.pooling == "senet" else ""
        return f"Hash{pooling} {self.rows} x {self.hashes}"


class HashTable(ItemEmbedding):
    """Item vector = base + pooled rows of a d x k table, chosen by h hash functions of the id.

    In `peft` mode the table starts at zero, so the item table starts as the base.  The SENet starts
    with equal weights 1/h, that is, as mean pooling.
    """

    kind = "hash"

    coefficients: Tensor
    """int64 of shape (h, 2): the a and b of each hash ((a * id + b) mod p) mod d; frozen."""

    def __init__(self, config: HashConfig, context: ItemContext) -> None:
        super().__init__(config, context)
        self.config: HashConfig = config
        rng = torch_rng(context.seed, "hash")
        drawn = _draw(config, rng)  # the first draw of all; the table's start follows on it
        self.register_buffer("coefficients", _good(config, context, drawn))
        table = torch.zeros(config.rows, self.embedding_dim)
        if config.mode == "compress":
            table = torch.randn(table.shape, generator=rng).mul_(config.init_std)
        self.table = nn.Parameter(table)
        if config.pooling == "mean":
            self.columns = frozenset({"table"})
        else:
            h, squeezed = config.hashes, max(1, config.hashes // 2)
            self.squeeze = nn.Parameter(torch.randn(h, squeezed, generator=rng).div_(h**0.5))
            self.excite = nn.Parameter(torch.zeros(squeezed, h))

    def lookups(self, ids: Tensor) -> dict[str, Tensor]:
        return {"table": _rows(ids, self.coefficients, self.config.rows)}

    def span(self) -> Span | None:
        if self.config.pooling != "mean":
            return None
        rows = self.lookups(torch.arange(self.num_embeddings, device=self.device))["table"]
        return Span("table", rows, 1 / self.config.hashes)

    def compose(
        self, rows: Mapping[str, Tensor], whole: Mapping[str, Tensor], base: Tensor | None
    ) -> Tensor:
        found = rows["table"]  # (..., h, k)
        if self.config.pooling == "senet":
            hidden = torch.relu(found.mean(-1) @ whole["squeeze"])
            # 2 sigmoid(0) / h = 1 / h: an untrained network is mean pooling, and its gradient lives
            weights = 2 * torch.sigmoid(hidden @ whole["excite"]) / self.config.hashes
            pooled = (found * weights.unsqueeze(-1)).sum(-2)
        else:
            pooled = found.mean(-2)
        return pooled if base is None else base + pooled

    def distinct_fraction(self) -> float:
        """Return the share of items whose set of rows no other item has, in [0, 1]."""
        alone, _ = _shares(self.coefficients.cpu(), self.num_embeddings, self.config.rows)
        return alone / self.num_embeddings


def _draw(config: HashConfig, rng: torch.Generator) -> Tensor:
    """Return random hash functions, int64 (h, 2)."""
    a = torch.randint(1, PRIME, (config.hashes,), generator=rng)
    b = torch.randint(0, PRIME, (config.hashes,), generator=rng)
    return torch.stack([a, b], dim=1)


def _rows(ids: Tensor, coefficients: Tensor, rows: int) -> Tensor:
    """Return the rows of ids, int64 (..., h)."""
    a, b = coefficients.unbind(1)
    return (ids.unsqueeze(-1) * a + b) % PRIME % rows


def _good(config: HashConfig, context: ItemContext, drawn: Tensor) -> Tensor:
    """Return the first of the draws that begin with `drawn` whose collisions are few enough.

    Integers alone decide, so all machines choose alike.
    """
    saved = (context.frozen or {}).get("coefficients")
    if saved is not None and saved.shape == drawn.shape:
        return saved.clone()
    items = len(context.base)
    least_alone, most_collisions = _asked(items, config.rows, config.hashes)
    found = []
    for attempt in range(1, DRAWS + 1):
        alone, collisions = _shares(drawn, items, config.rows)
        if alone >= least_alone and collisions <= most_collisions:
            return drawn
        found.append((collisions, drawn))
        drawn = _draw(config, torch_rng(context.seed, "hash", attempt))
    return min(found, key=lambda one: one[0])[1]


def _asked(items: int, rows: int, hashes: int) -> tuple[int, int]:
    """Return how many items must have rows of their own, and how many pairs may share theirs.

    It is about what a random choice of rows has.  Where there are more items than sets of rows, few
    can be alone, and fewer still if they are spread evenly; then the pairs say all.
    """
    pairs = math.comb(items, 2)
    expected = min(pairs, pairs * math.factorial(hashes) // rows**hashes)
    most = expected + expected // 10 + math.isqrt(expected) + items // 100
    if 2 * expected > items:
        return 0, most
    alone = items * (Decimal(-2 * expected) / items).exp()  # unlike floats, alike on all machines
    return int(alone * 95 / 100), most


def _shares(coefficients: Tensor, items: int, rows: int) -> tuple[int, int]:
    """Return how many items have rows of their own, and how many pairs have the same rows."""
    words = torch.from_numpy(mix(np.arange(1, rows + 1, dtype=np.uint64)).view(np.int64))
    # a sum of random words (modulo 2^64) stands for a set of rows, whatever its order
    sums = words[_rows(torch.arange(items), coefficients, rows)].sum(-1)
    _, counts = torch.unique(sums, return_counts=True)
    return int((counts == 1).sum()), int((counts * (counts - 1) // 2).sum())


adapters.register("hash", config=HashConfig, build=HashTable)
