"""Counts arithmetic operations as they are dispatched, also of tensors without values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

_aten = torch.ops.aten
_COPIES = {_aten.clone, _aten.copy_, _aten._to_copy, _aten.fill_, _aten.zero_}
_SUMS = {_aten.sum}
_MEANS = {_aten.mean}
_SCATTERS = {
    _aten.embedding_dense_backward: 0,
    _aten.index_add: 3,
    _aten.index_add_: 3,
    _aten.index_put: 2,
    _aten.index_put_: 2,
}
"""Operations that add rows into a table -> the place of those rows among their arguments."""


@dataclass(frozen=True)
class Operations:
    """Arithmetic operations; a multiplication and an addition are one each.

    Attributes
    ----------
    matmul
        In matrix products, as `torch.utils.flop_counter` counts them: two per multiply-add.
    elementwise
        Other floating-point operations; a sigmoid or a ReLU counts as one.
    integer
        On whole numbers: hash functions.
    """

    matmul: int
    elementwise: int
    integer: int

    @property
    def flops(self) -> int:
        """Floating-point operations."""
        return self.matmul + self.elementwise


class Count:
    """Running counts; `operations` once the counted block is over."""

    def __init__(self) -> None:
        self.elementwise = 0
        self.integer = 0
        self.operations = Operations(0, 0, 0)


@contextmanager
def counted() -> Iterator[Count]:
    """Count what happens within the block, backward passes included."""
    count = Count()
    with FlopCounterMode(display=False) as products, _Elementwise(count):
        yield count
    count.operations = Operations(products.get_total_flops(), count.elementwise, count.integer)


class _Elementwise(TorchDispatchMode):
    """Adds up everything but matrix products."""

    def __init__(self, count: Count) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._count = count

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            done = _operations(func, args, result)
            if result.is_floating_point():
                self._count.elementwise += done
            elif result.dtype != torch.bool:
                self._count.integer += done
        return result


def _operations(func: Any, args: Sequence[Any], result: Tensor) -> int:
    """Return the operations of one call."""
    packet = func.overloadpacket
    first: Tensor | None = args[0] if args and isinstance(args[0], Tensor) else None
    if packet in _SCATTERS:
        return math.prod(args[_SCATTERS[packet]].shape)
    if packet in _MEANS:  # the additions and one division for each result
        return 0 if first is None else first.numel()
    if packet in _SUMS:
        return 0 if first is None else first.numel() - result.numel()
    if torch.Tag.pointwise in func.tags and packet not in _COPIES:
        return result.numel()
    return 0
