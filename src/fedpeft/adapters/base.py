"""The item embedding: a drop-in for `torch.nn.Embedding` whose trainable part is small.

An adapter is written once, for one client, in two halves: `lookups` says which rows of which
tensor an item needs, `compose` turns those rows into item vectors.  `forward` is both in turn.
The fast backends call the halves themselves, so that thousands of clients can share or stack
the tensors without another implementation of the adapter.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fedpeft.adapters.checks import check_padding, check_tensors
from fedpeft.adapters.config import AdapterConfig
from fedpeft.adapters.span import Span
from fedpeft.adapters.stand_in import StandIn
from fedpeft.adapters.subspace import packed_size
from fedpeft.errors import renamed
from fedpeft.files import fingerprint
from fedpeft.registry import Registry


@dataclass(frozen=True)
class ItemContext:
    """What an adapter may be built from.

    Attributes
    ----------
    base
        float32 of shape (n, k): the item vectors so far.
    seed
        Seeds the new subspace (LoRA's A, the hash functions, the codes); differs at every refresh.
    turn
        Which of the subspaces that are drawn together (`AdapterConfig.cycle`) it is.
    semantic_ids
        ``(levels, codes) -> int64 (n, levels)``: codes from item text, where pretraining made some.
    frozen
        Frozen tensors of a subspace that is to be rebuilt (a saved adapter's), where computing them
        again would be dear; None makes a new subspace.
    padding_idx
        The id that stands for no item, as in `torch.nn.Embedding`, for models that pad sequences;
        the simulator has none.
    """

    base: Tensor
    seed: int
    semantic_ids: Callable[[int, int], Tensor] | None = None
    frozen: Mapping[str, Tensor] | None = None
    padding_idx: int | None = None
    turn: int = 0


ItemContext.__init__ = renamed(semantic_codes="semantic_ids")(  # type: ignore[method-assign]
    ItemContext.__init__
)


class ItemEmbedding(StandIn):
    """Item vectors of one client: a frozen base plus a small trainable correction.

    Wherever a model looks items up, it takes the place of a `torch.nn.Embedding`: the same call,
    the same attributes, and (to read) `weight`.

    Parameters
    ----------
    config
        The adapter's settings.
    context
        The base table, the seed of the subspace, the semantic codes.  In `compress` mode the base
        gives only the shape (and, for `rq`, the codes): it is not kept.

    Notes
    -----
    All parameters are the payload: they train and travel.  All buffers are frozen.  Subclasses
    register a parameter per payload tensor, and a buffer per frozen one; no name but `full`'s table
    may be ``weight``, which is the whole item table here.

    `to`, `half` and the like cast the base along with the payload, as they do any floating-point
    buffer: a base in float16 or bfloat16 takes half the memory and is rounded once.  Cast back, it
    stays rounded.
    """

    kind: ClassVar[str]
    """The name the adapter is registered under."""
    item_indexed: ClassVar[frozenset[str]] = frozenset()
    """Payload tensors with one row per item: a client touches only the rows of its own items."""

    columns: frozenset[str] = frozenset()
    """Payload tensors that end in the k columns of the item vectors, where the item vectors are
    linear in them and the base, column by column: any matrix that maps the columns of all of these
    maps the item vectors likewise.  Optional; the vmap backend saves much time by it where the
    loss sums over all items."""

    base: Tensor | None

    def __init__(self, config: AdapterConfig, context: ItemContext) -> None:
        super().__init__()
        self.config = config
        self.num_embeddings, self.embedding_dim = context.base.shape
        self.padding_idx = check_padding(context.padding_idx, self.num_embeddings)
        kept = context.base.detach().float().clone() if self.uses_base else None
        self.register_buffer("base", kept)

    @property
    def uses_base(self) -> bool:
        """Whether a client needs the frozen base table to compute item vectors."""
        return self.config.mode == "peft"

    @abstractmethod
    def lookups(self, ids: Tensor) -> dict[str, Tensor]:
        """Return, for each payload tensor that is read by row, the rows the items need.

        Parameters
        ----------
        ids
            int64 of shape (...).

        Returns
        -------
        dict
            name -> int64 of shape (...) or (..., h).
        """

    @abstractmethod
    def compose(
        self, rows: Mapping[str, Tensor], whole: Mapping[str, Tensor], base: Tensor | None
    ) -> Tensor:
        """Turn looked-up rows into item vectors.

        Parameters
        ----------
        rows
            name -> float of shape (..., width) or (..., h, width), as `lookups` asked.
        whole
            The payload tensors that are not read by row.
        base
            float of shape (..., k), the items' base rows; None in `compress` mode.

        Returns
        -------
        Tensor
            float of shape (..., k).
        """

    def forward(self, ids: Tensor) -> Tensor:
        """Return item vectors, float of shape (..., k), for int64 or int32 ids of shape (...).

        The vector of `padding_idx` is zero and has no gradient.

        Raises
        ------
        IndexError
            If an id is not that of an item (on a GPU, what CUDA makes of it).
        """
        self.used()
        if not self.scale_grad_by_freq:
            return self.embed(self.tensors(), ids)
        items, places = torch.unique(ids, return_inverse=True)
        vectors = self.embed(self.tensors(), items)
        return F.embedding(places, vectors, scale_grad_by_freq=True)

    def embed(self, tensors: Mapping[str, Tensor], ids: Tensor) -> Tensor:
        """Return item vectors computed from the given payload tensors instead of our own."""
        if self.base is None and not self.item_indexed:  # no table of n rows refuses other ids
            nothing = torch.zeros(1, 1, dtype=torch.int64, device=ids.device)
            ids = ids + F.embedding(ids, nothing.expand(self.num_embeddings, 1)).squeeze(-1)
        indices = self.lookups(ids)
        rows = {name: F.embedding(index, tensors[name]) for name, index in indices.items()}
        whole = {name: tensor for name, tensor in tensors.items() if name not in indices}
        vectors = self.compose(rows, whole, self.base_rows(ids))
        if self.padding_idx is None:
            return vectors
        return vectors.masked_fill((ids == self.padding_idx).unsqueeze(-1), 0.0)

    def base_rows(self, ids: Tensor) -> Tensor | None:
        """Return the base rows of the items, float (..., k); None when there is no base."""
        return None if self.base is None else F.embedding(ids, self.base)

    @property
    def starts_at_zero(self) -> bool:
        """Whether the payload of a new subspace is all zero."""
        return self.config.keeps_base and self.config.spans

    def span(self) -> Span | None:
        """Return how item vectors are linear in the payload, where it is one tensor; else None."""
        return None

    def payload(self) -> dict[str, Tensor]:
        """Return a copy of the tensors that travel; never live references.

        It does not say what it belongs to; `payload_state_dict` does.
        """
        self.used()
        return {name: tensor.detach().clone() for name, tensor in self.named_parameters()}

    def load_payload(self, payload: Mapping[str, Tensor]) -> None:
        """Overwrite the trainable tensors.

        Raises
        ------
        ArtifactError
            If a tensor is missing, unknown, of another shape, or not finite in our own precision.
        """
        own = dict(self.named_parameters())
        cast = self.checked(payload)
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(cast[name])
        self.untouched = False

    def checked(self, payload: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a payload in our own precision; raises as `load_payload` does, loads nothing."""
        cast = {name: tensor.to(self.dtype) for name, tensor in payload.items()}
        shapes = {name: tensor.shape for name, tensor in self.named_parameters()}
        check_tensors(cast, shapes, self.kind)
        return cast

    def frozen(self) -> dict[str, Tensor]:
        """Return copies of the frozen tensors that define the subspace (codes, hash seeds)."""
        return {name: t.detach().clone() for name, t in self.named_buffers() if name != "base"}

    def describe(self) -> dict[str, Any]:
        """Return what a reader of a run should know of the subspace, ready for JSON."""
        return {}

    @torch.no_grad()
    def load_frozen(self, frozen: Mapping[str, Tensor]) -> None:
        """Overwrite the frozen tensors that define the subspace.

        Raises
        ------
        ArtifactError
            If a tensor is missing, unknown, of another shape, or not finite.
        """
        own = {name: tensor for name, tensor in self.named_buffers() if name != "base"}
        check_tensors(frozen, {name: tensor.shape for name, tensor in own.items()}, self.kind)
        for name, tensor in own.items():
            tensor.copy_(frozen[name])

    @torch.no_grad()
    def merge(self, payload: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the full item table that a payload (our own by default) stands for.

        Returns
        -------
        Tensor
            float32 of shape (n, k).
        """
        tensors = self.tensors() if payload is None else payload
        ids = torch.arange(self.num_embeddings, device=self.device)
        return torch.cat([self.embed(tensors, part).float() for part in torch.split(ids, 1 << 18)])

    @property
    def payload_values(self) -> int:
        """Number of values that travel per direction and round."""
        return sum(tensor.numel() for tensor in self.parameters())

    @property
    def base_bytes(self) -> int:
        """Bytes of the base table a client downloads once (float32)."""
        return 0 if self.base is None else 4 * self.base.numel()

    @property
    def subspace_bytes(self) -> int:
        """Bytes of codes or seeds a client downloads whenever the subspace is new."""
        return packed_size({name: t for name, t in self.named_buffers() if name != "base"})

    @property
    def base_fingerprint(self) -> str:
        """SHA-256 of what the adapter plugs onto: the base table, or its shape when there is none.

        The shape stands in for the table in `compress` mode, where no base is needed.
        """
        if self.base is None:
            return fingerprint(f"no base {self.num_embeddings}x{self.embedding_dim}")
        return fingerprint(self.base.float())  # exact; a rounded base is another base

    @property
    def mark(self) -> str:
        """What a payload belongs to, as 16 hex digits: adapter, base and subspace.

        Computed from the tensors: it changes when they do.  A base in another precision is another.
        """
        subspace = self.config.pack_subspace(self.frozen())
        return fingerprint(self.kind, self.base_fingerprint, subspace)[:16]

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}, {self.config!r}"


adapters: Registry[ItemEmbedding] = Registry(
    "adapter",
    "adapters",
    builtin=tuple(f"fedpeft.adapters.{name}" for name in ("full", "lora", "hash", "rq")),
    config=AdapterConfig,
)
