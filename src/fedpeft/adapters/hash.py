"""Hash embeddings: h universal hashes into one table of d rows, pooled (the paper's P-Hash).

Universal hashing after Carter and Wegman 1979; the weighted pooling is a squeeze-and-excitation
network (Hu et al. 2018) over the h rows, as FiBiNET applies it to embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fedpeft.adapters.base import ItemContext, ItemEmbedding, adapters
from fedpeft.adapters.config import COMPRESS, AdapterConfig
from fedpeft.adapters.span import Span
from fedpeft.errors import ArtifactError
from fedpeft.seeding import torch_rng

PRIME = 2**31 - 1  # Mersenne; a * id + b stays below 2**63 for ids below 2**31


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
        a = torch.randint(1, PRIME, (config.hashes,), generator=rng)
        b = torch.randint(0, PRIME, (config.hashes,), generator=rng)
        self.register_buffer("coefficients", torch.stack([a, b], dim=1))
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
        a, b = self.coefficients.unbind(1)
        return {"table": (ids.unsqueeze(-1) * a + b) % PRIME % self.config.rows}

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
        index = self.lookups(torch.arange(self.num_embeddings, device=self.device))["table"]
        _, counts = torch.unique(index.sort(dim=1).values, dim=0, return_counts=True)
        return float((counts == 1).sum()) / self.num_embeddings


adapters.register("hash", config=HashConfig, build=HashTable)
