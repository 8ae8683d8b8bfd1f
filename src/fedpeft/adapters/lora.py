"""LoRA: a low-rank correction A B of the item table (Hu et al. 2022; the paper's P-LoRA)."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fedpeft.adapters.base import ItemContext, ItemEmbedding, adapters
from fedpeft.adapters.config import AdapterConfig
from fedpeft.adapters.span import Span
from fedpeft.config import ActsIf
from fedpeft.seeding import torch_rng


class LoRAConfig(AdapterConfig):
    """Settings of LoRA."""

    acting: ClassVar = {
        "zero": ActsIf(
            "mode = 'peft' and basis = 'trained'",
            lambda table: table.mode == "peft" and table.basis == "trained",
        ),
        "init_std": ActsIf(
            "mode = 'compress', or zero = 'B' and a trained basis",
            lambda table: (
                table.mode == "compress" or (table.zero == "B" and table.basis == "trained")
            ),
        ),
    }
    presets: ClassVar = {
        "fedpeft": {"zero": "A"},
        "newton": {"basis": "random", "rank": 8},
        "colr": {"basis": "random"},
    }

    rank: int = Field(4, ge=1)
    """Columns of A; the payload is rank * (n + k) values."""
    init_std: float = Field(0.1, gt=0)
    """Standard deviation of A's entries (and of B's in `compress` mode) at the start."""

    basis: Literal["trained", "random"] = "trained"
    """Whether B trains and travels with A, or is frozen, and random with each new subspace (CoLR,
    Nguyen et al. 2024): then A alone travels, n * r values.  Successive subspaces are blocks of one
    random rotation, so that k / r of them span everything."""
    zero: Literal["A", "B"] = "B"
    """Which factor starts at zero in `peft` mode.  B (the paper): first B alone moves, the same for
    all items.  A: B starts as a random orthonormal basis and every item moves at once within it,
    which loses less time where the adapter starts anew every M rounds."""

    @property
    def spans(self) -> bool:
        return self.basis == "random"

    def cycle(self, dim: int) -> int:
        return ceil(dim / self.rank) if self.basis == "random" else 1

    @property
    def linear(self) -> bool:
        return True

    def label(self) -> str:
        return f"LoRA r={self.rank}"


class LoRATable(ItemEmbedding):
    """Item vector = base + a B with one row a of A (n x r) per item and B (r x k) for all.

    One factor starts at zero in `peft` mode, so the table starts as the base.  Without a base, a
    zero would make every score zero, so both start at random in `compress` mode.
    """

    kind = "lora"
    item_indexed = frozenset({"A"})
    columns = frozenset({"B"})
    B: Tensor

    def __init__(self, config: LoRAConfig, context: ItemContext) -> None:
        super().__init__(config, context)
        self.config: LoRAConfig = config
        rng = torch_rng(context.seed, "lora")
        n, k = self.num_embeddings, self.embedding_dim
        a = torch.randn(n, config.rank, generator=rng).mul_(config.init_std)
        b = torch.zeros(config.rank, k)
        if config.mode == "compress":
            b = torch.randn(config.rank, k, generator=rng).mul_(config.init_std)
        elif config.basis == "random" and config.rank <= k:
            a.zero_()
            basis = nn.init.orthogonal_(torch.empty(k, k), generator=rng)
            b = basis.roll(-config.rank * context.turn, 0)[: config.rank].clone()
        elif config.basis == "random" or config.zero == "A":
            a.zero_()
            nn.init.orthogonal_(b, generator=rng)
        self.A = nn.Parameter(a)
        if config.basis == "random":
            self.register_buffer("B", b)
            self.columns = frozenset()
        else:
            self.B = nn.Parameter(b)

    def lookups(self, ids: Tensor) -> dict[str, Tensor]:
        return {"A": ids}

    def compose(
        self, rows: Mapping[str, Tensor], whole: Mapping[str, Tensor], base: Tensor | None
    ) -> Tensor:
        delta = rows["A"] @ whole.get("B", self.B)
        return delta if base is None else base + delta

    def span(self) -> Span | None:
        return Span("A", columns=self.B) if self.config.basis == "random" else None


adapters.register("lora", config=LoRAConfig, build=LoRATable)
