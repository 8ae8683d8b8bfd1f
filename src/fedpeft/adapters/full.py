"""The full table: every item vector trains and travels.  The baseline, and the warm-up phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedpeft.adapters.base import ItemContext, ItemEmbedding, adapters
from fedpeft.adapters.config import COMPRESS, AdapterConfig
from fedpeft.adapters.span import Span
from fedpeft.seeding import torch_rng


class FullConfig(AdapterConfig):
    """Settings of the full table."""

    acting: ClassVar = {"init_std": COMPRESS}

    init_std: float = Field(0.1, gt=0)
    """Standard deviation of the initial table in `compress` mode (no text)."""

    @property
    def linear(self) -> bool:
        return True

    @property
    def spans(self) -> bool:
        return True

    @property
    def is_table(self) -> bool:
        return True


class FullTable(ItemEmbedding):
    """A trainable n x k table that starts as the base (`peft`) or at random (`compress`).

    The payload is the whole table, so a client needs no base beside it.
    """

    kind = "full"
    item_indexed = frozenset({"weight"})
    columns = frozenset({"weight"})

    def __init__(self, config: FullConfig, context: ItemContext) -> None:
        super().__init__(config, context)
        start = context.base.detach().float().clone()
        if config.mode == "compress":
            rng = torch_rng(context.seed, "full")
            start = torch.randn(start.shape, generator=rng).mul_(config.init_std)
        # every item embedding has a property `weight`, which rules out plain assignment
        self._parameters["weight"] = nn.Parameter(start)

    @property
    def weight(self) -> Tensor:
        """The table itself, float of shape (n, k), to write too; with padding, as elsewhere."""
        return self.tensors()["weight"] if self.padding_idx is None else super().weight

    def _table(self) -> Tensor:
        return self.tensors()["weight"]

    @property
    def uses_base(self) -> bool:
        return False

    def lookups(self, ids: Tensor) -> dict[str, Tensor]:
        return {"weight": ids}

    def span(self) -> Span:
        return Span("weight")

    def compose(
        self, rows: Mapping[str, Tensor], whole: Mapping[str, Tensor], base: Tensor | None
    ) -> Tensor:
        return rows["weight"]


adapters.register("full", config=FullConfig, build=FullTable)
