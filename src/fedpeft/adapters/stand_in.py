"""What makes a module stand in for `torch.nn.Embedding` in code that knows nothing of adapters."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fedpeft.adapters.checks import table_fault
from fedpeft.adapters.table import READ_ONLY, read_only
from fedpeft.errors import ArtifactError, InputError, PayloadWarning


class StandIn(nn.Module, ABC):
    """A module with the attributes of `torch.nn.Embedding` and a table that is computed.

    Attributes
    ----------
    max_norm, norm_type, sparse
        As in `torch.nn.Embedding`; always None, 2.0 and False.
    scale_grad_by_freq
        Whether an item's gradient is divided by how often a call names the item, as there.
    untouched
        Whether nothing has used the payload yet, so that it must still be as it began.
    """

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None
    max_norm = None
    norm_type = 2.0
    sparse = False
    scale_grad_by_freq: bool = False
    base: Tensor | None
    untouched: bool = False

    @abstractmethod
    def merge(self, payload: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the item table, float32 of shape (n, k)."""

    @property
    def weight(self) -> Tensor:
        """The full item table as `torch.nn.Embedding` has it, float of shape (n, k), read-only.

        Computed at each access, with its gradient: an output layer tied to the embedding trains the
        adapter.  Writing into it raises `InputError`.
        """
        ids = torch.arange(self.num_embeddings, device=self.device)
        return read_only(self(ids))

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "weight" or name in self._parameters:
            super().__setattr__(name, value)
        elif "_is_replica" not in self.__dict__:  # a replica of `DataParallel` keeps it elsewhere
            raise InputError(READ_ONLY)

    @torch.no_grad()
    def set_base(self, table: Tensor) -> None:
        """Put another table below the adapter, in place; the adapter's correction stays on top.

        Clients and server must do the same: a payload fits the base it was trained on.

        Parameters
        ----------
        table
            Float of shape (n, k), rounded to the adapter's precision.

        Raises
        ------
        InputError
            If there is no base (`compress` mode), or the table is of another shape, not finite, or
            its padding row is not zero.
        """
        own = self._table()
        if own is None:
            raise InputError("in 'compress' mode an adapter has no base to set; use mode = 'peft'")
        if table.shape != own.shape:
            raise InputError(f"a base must have shape {tuple(own.shape)}, got {tuple(table.shape)}")
        fault = table_fault(table.to(own.dtype), self.padding_idx)
        if fault is not None:
            raise InputError(f"the base cannot be set: {fault}")
        own.copy_(table)

    def _table(self) -> Tensor | None:
        """Return the table that `set_base` writes."""
        return self.base

    def tensors(self) -> dict[str, Tensor]:
        """Return the payload's own tensors, by name; a replica of `DataParallel` has copies."""
        return dict(self.named_parameters()) or dict(self.__dict__.get("_former_parameters", {}))

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return next(iter(self.tensors().values())).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the tensors; float32 unless the module was cast."""
        return next(iter(self.tensors().values())).dtype

    def used(self) -> None:
        """Note that the payload is used from now on; the first time, check that it is as it began.

        A payload begins with item vectors equal to the base.  A loop that initialises all
        parameters of a model after the swap shifts every vector, and nothing else would show it.
        Once a payload was used or loaded, writing into it is what training does.

        Warns
        -----
        PayloadWarning
            If something wrote into it before.
        """
        if not self.untouched or self.base is None or torch.compiler.is_compiling():
            return
        if not all(isinstance(tensor, nn.Parameter) for tensor in self.tensors().values()):
            return  # somebody else's tensors, as in `torch.func.functional_call`
        self.untouched = False
        off = float((self.merge() - self.base.float()).abs().max())
        if off != 0:
            warnings.warn(
                f"the adapter's payload was written into before its first use, so item vectors are "
                f"up to {off:.3g} off their base; run loops that initialise parameters before "
                "replace_embedding, and bring in a payload with load_payload",
                PayloadWarning,
                stacklevel=2,
            )

    def __getstate__(self) -> Any:
        self.used()  # a copy is a use: what is written into it, or into the original, may be meant
        return self.__dict__.copy()

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.used()
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # with strict = False torch would pass over both without a word
        foreign = [name for name in state_dict if name.startswith(prefix)]
        if marked := [name for name in foreign if "@" in name.removeprefix(prefix)]:
            raise ArtifactError(
                f"{marked[0]!r} is from payload_state_dict(model); load it with "
                "load_payload_state_dict(model, state)"
            )
        if f"{prefix}weight" in foreign and "weight" not in self._parameters:
            raise ArtifactError(
                f"{prefix + 'weight'!r} is a plain item table, which an adapter computes; load it "
                "before replace_embedding, or make it the base with set_base"
            )
        for name, own in self.named_buffers():
            given = state_dict.get(prefix + name, own)
            if own.is_floating_point() == given.is_floating_point() or torch.equal(
                own.double().cpu(), given.double().cpu()
            ):
                continue
            raise ArtifactError(
                f"{prefix}{name} holds whole numbers that name rows, but what is loaded is "
                f"{given.dtype} and differs, as a mean does; send payload_state_dict(model) in "
                "place of model.state_dict()"
            )
        self.untouched = False
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
