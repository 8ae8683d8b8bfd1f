"""RQ: item vectors as sums of codewords, chosen by frozen semantic codes (the paper's P-RQ-VAE)."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log2
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fedpeft.adapters.base import ItemContext, ItemEmbedding, adapters
from fedpeft.adapters.config import COMPRESS, AdapterConfig
from fedpeft.adapters.span import Span
from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.items import describe_codes, residual_kmeans
from fedpeft.packing import pack_bits, unpack_bits
from fedpeft.seeding import torch_rng


class RQConfig(AdapterConfig):
    """Settings of the RQ adapter."""

    acting: ClassVar = {"init_std": COMPRESS}
    # the paper's codes are the RQ-VAE's, made before any training
    presets: ClassVar = {"paper": {"source": "text"}}

    levels: int = Field(4, ge=1, le=16)
    """l, codebooks summed per item."""
    codes: int = Field(256, ge=2, le=65536)
    """d, rows of each codebook; the payload is l * d * k values."""
    source: Literal["table", "text"] = "table"
    """Where codes come from: residual k-means over the item table as it is when the adapter starts
    (after a warm-up it knows behaviour), or the RQ-VAE over item text."""
    init_std: float = Field(0.1, gt=0)
    """Standard deviation of the codebooks at the start in `compress` mode; else zero."""

    @property
    def linear(self) -> bool:
        return True

    @property
    def spans(self) -> bool:
        return True

    @property
    def refreshes(self) -> bool:
        return self.source == "table"  # an item's text stays, and so do its codes

    @property
    def bits(self) -> int:
        """Bits that one code takes on the network."""
        return ceil(log2(self.codes))

    def pack_subspace(self, frozen: Mapping[str, Tensor]) -> bytes:
        return pack_bits(frozen["codes"].cpu() - self.offsets(), self.bits)

    def unpack_subspace(self, data: bytes, n_items: int) -> dict[str, Tensor]:
        codes = unpack_bits(data, self.bits, n_items * self.levels).view(n_items, self.levels)
        if codes.numel() and int(codes.max()) >= self.codes:
            raise ArtifactError(f"a code must be below {self.codes}, got {int(codes.max())}")
        return {"codes": codes + self.offsets()}

    def offsets(self) -> Tensor:
        """Return where each level's codebook begins among the stacked ones, int64 (l,)."""
        return torch.arange(self.levels) * self.codes

    @property
    def shares_rows(self) -> bool:
        return True

    @property
    def derived_rows(self) -> bool:
        return True

    @property
    def reads_text(self) -> bool:
        return self.source == "text"

    def without_text(self) -> Self:
        return self.model_copy(update={"source": "table"})

    def drawn(self, items: int, rng: torch.Generator) -> dict[str, Tensor]:
        codes = torch.randint(self.codes, (items, self.levels), generator=rng)
        return {"codes": codes + self.offsets()}

    def label(self) -> str:
        return f"RQ {self.codes} x {self.levels}"


class RQTable(ItemEmbedding):
    """Item vector = base + the sum of one codeword per level.

    The l codebooks are one tensor of shape (l * d, k), so that one look-up serves all levels.
    """

    kind = "rq"
    columns = frozenset({"codebooks"})

    codes: Tensor
    """int64 of shape (n, l): each item's codeword per level, offset by level * d; frozen."""

    def __init__(self, config: RQConfig, context: ItemContext) -> None:
        super().__init__(config, context)
        self.config: RQConfig = config
        self.register_buffer("codes", _codes(config, context))
        codebooks = torch.zeros(config.levels * config.codes, self.embedding_dim)
        if config.mode == "compress":
            rng = torch_rng(context.seed, "rq")
            codebooks = torch.randn(codebooks.shape, generator=rng).mul_(config.init_std)
        self.codebooks = nn.Parameter(codebooks)

    def lookups(self, ids: Tensor) -> dict[str, Tensor]:
        return {"codebooks": F.embedding(ids, self.codes)}  # refuses ids out of range, as all do

    def span(self) -> Span:
        return Span("codebooks", self.codes)

    def compose(
        self, rows: Mapping[str, Tensor], whole: Mapping[str, Tensor], base: Tensor | None
    ) -> Tensor:
        total = rows["codebooks"].sum(-2)
        return total if base is None else base + total

    def describe(self) -> dict[str, Any]:
        codes = self.codes.cpu() - self.config.offsets()
        return {"codes": describe_codes(codes, self.config.codes)}

    @property
    def subspace_bytes(self) -> int:
        return ceil(self.config.bits * self.codes.numel() / 8)


def _codes(config: RQConfig, context: ItemContext) -> Tensor:
    """Return every item's rows in the stacked codebooks, int64 (n, l)."""
    saved = (context.frozen or {}).get("codes")
    if saved is not None and saved.shape == (len(context.base), config.levels):
        return saved.clone()
    if config.source == "table":
        if not context.base.any():  # every item would get the same codes
            raise ConfigError(
                "adapter.source = 'table' needs item vectors to derive codes from, but the base is "
                "all zero; choose items.base 'autoencoder' or 'svd', or set warm-up rounds"
            )
        codes, _ = residual_kmeans(
            context.base, levels=config.levels, codes=config.codes, seed=context.seed
        )
    elif context.semantic_ids is not None:
        codes = context.semantic_ids(config.levels, config.codes)
    else:
        raise ConfigError(
            "adapter.source = 'text' needs item text; give the items text or use 'table'"
        )
    return codes.cpu() + config.offsets()


adapters.register("rq", config=RQConfig, build=RQTable)
