"""The item table that an adapter computes: to read, never to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from fedpeft.errors import InputError

READ_ONLY = (
    "an adapter's weight is computed at each access, so writing into it changes nothing; "
    "set_base(table) sets the table below the adapter, load_payload(payload) the adapter, "
    "requires_grad_(False) on the adapter freezes it, and weight.detach().clone() is a copy of "
    "your own"
)


class ItemTable(Tensor):
    """A computed item table, float of shape (n, k), that refuses to be written into.

    Views of it (`data`, `detach`, rows, the transpose) refuse as well.  All other results are plain
    tensors.
    """

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else kwargs.get("tensor")  # so do the functions of `torch.nn.init`
        name = func.__name__
        if (isinstance(first, cls) and _writes(name)) or isinstance(kwargs.get("out"), cls):
            raise InputError(READ_ONLY)
        with torch._C.DisableTorchFunctionSubclass():
            plain_args, plain_kwargs = tree_map(_plain, (tuple(args), dict(kwargs)))
            found = func(*plain_args, **plain_kwargs)
            if isinstance(first, cls) and isinstance(found, Tensor) and _shares(found, first):
                return found.as_subclass(cls)
            return found


def read_only(table: Tensor) -> Tensor:
    """Return a tensor as an `ItemTable`; while it is traced or mapped, as it is."""
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(table):
        return table
    return table.as_subclass(ItemTable)


def _plain(value: Any) -> Any:
    return value.as_subclass(Tensor) if isinstance(value, ItemTable) else value


def _writes(name: str) -> bool:
    """Whether a function of torch of this name writes into its first argument."""
    if name.startswith("__"):
        return name in ("__set__", "__setitem__", "__delete__") or (
            name.startswith("__i")
            and name not in ("__index__", "__int__", "__invert__", "__iter__")
        )
    return name.endswith("_")


def _shares(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors lie in the same memory."""
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
