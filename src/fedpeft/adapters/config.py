"""Settings and traits that every adapter has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from fedpeft.adapters.subspace import pack, unpack
from fedpeft.config import ActsIf, ConfigModel

Mode = Literal["peft", "compress"]
COMPRESS = ActsIf("mode = 'compress'", lambda table: table.mode == "compress")
"""The condition of settings for an adapter that starts without a base."""


class AdapterConfig(ConfigModel):
    """Settings every adapter has."""

    mode: Mode = "peft"
    """`peft` (P-): item vector = frozen base + adapter; `compress` (C-): the adapter alone."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """What each preset sets otherwise for this adapter: preset -> settings of this table."""

    # Traits.  Presets, checks and costs go by them, never by the name of a registered adapter.

    @property
    def linear(self) -> bool:
        """Whether item vectors are linear in the payload: `ItemEmbedding.columns` is declared."""
        return False

    @property
    def spans(self) -> bool:
        """Whether they are linear in a payload of one tensor: `ItemEmbedding.span` says how."""
        return False

    @property
    def refreshes(self) -> bool:
        """Whether a refresh has a point: whether it opens another subspace."""
        return True

    @property
    def is_table(self) -> bool:
        """Whether the payload is the whole item table, so that nothing is left to adapt."""
        return False

    @property
    def shares_rows(self) -> bool:
        """Whether items share the rows of a payload tensor."""
        return False

    @property
    def random_rows(self) -> bool:
        """Whether chance decides which items share rows."""
        return False

    @property
    def derived_rows(self) -> bool:
        """Whether which rows an item has is found by training or clustering, not from its id."""
        return False

    @property
    def reads_text(self) -> bool:
        """Whether the subspace is made from the items' encoded texts."""
        return False

    def cycle(self, dim: int) -> int:
        """Return how many successive subspaces are drawn together, for item vectors of k = dim."""
        return 1

    @property
    def keeps_base(self) -> bool:
        """Whether a client keeps a frozen base that the adapter can be merged into."""
        return self.mode == "peft" and not self.is_table

    def pack_subspace(self, frozen: Mapping[str, Tensor]) -> bytes:
        """Return the frozen tensors of a subspace as a client downloads them."""
        return pack(frozen)

    def unpack_subspace(self, data: bytes, n_items: int) -> dict[str, Tensor]:
        """Undo `pack_subspace`; raises `ArtifactError` for bytes that cannot have come from it."""
        return unpack(data)

    def without_text(self) -> Self:
        """Return the same settings for a subspace that needs no texts."""
        return self

    def drawn(self, items: int, rng: torch.Generator) -> dict[str, Tensor] | None:
        """Return frozen tensors drawn at random where finding them is dear, for measurements."""
        return None

    def label(self) -> str:
        """Return what tables and plots call an adapter of these settings, without the mode."""
        return type(self).__name__.removesuffix("Config")
