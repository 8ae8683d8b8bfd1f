"""The base of all layouts of uploads: what of a change is written, as values and as whole numbers.

A layout reduces the changes of C clients at once, so that the fast backends reckon with what
arrives; one client's bytes are made the same way with C = 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedpeft.protocol.encodings import Codec, Shapes
from fedpeft.protocol.wire import MessageError
from fedpeft.tensors import Tensors

UploadForm = Literal["dense", "rows", "rank_one", "actions"]
Ditherer = Callable[[str, int], Tensor]
"""``(name, N) -> float (1, N)``: what a client rounds the N values of a tensor by."""
ROWS = "rows"
"""The name of the items that a client touched, among whole numbers."""


class Reduced(NamedTuple):
    """What is written of the changes of C clients.

    Attributes
    ----------
    values
        name -> float (C, ...): what an encoding may round.
    whole
        name -> int64 (C, ...): what travels exactly.
    """

    values: Tensors
    whole: Tensors


class UploadCodec(ABC):
    """Turns one client's change into bytes and back: whole numbers first, then values.

    Parameters
    ----------
    codec
        How values are written.
    shapes
        Names and shapes of a change.

    Attributes
    ----------
    form
        The name of the layout.
    lossless
        Whether nothing but the encoding of values is lost.
    by_rows
        Whether its length depends on how many items a client touched.
    reveals
        What a server that sees single uploads reads in them, as the rest of a sentence; "" where
        it is no more than a change says anyway.
    """

    form: ClassVar[UploadForm]
    lossless: ClassVar[bool] = True
    by_rows: ClassVar[bool] = False
    reveals: ClassVar[str] = ""

    def __init__(self, codec: Codec, shapes: Shapes) -> None:
        self.codec = codec
        self.shapes = dict(shapes)

    @abstractmethod
    def values(self, touched: int) -> Shapes:
        """Return names and shapes of one client's values, if it touched so many items."""

    @abstractmethod
    def reduce(self, change: Mapping[str, Tensor], rows: Tensor | None = None) -> Reduced:
        """Return what is written of changes, name -> float (C, ...).

        Parameters
        ----------
        rows
            int64 (C, t), ascending: the items that each client touched.  None: as `change` has it.
        """

    @abstractmethod
    def restore(self, sent: Reduced) -> Tensors:
        """Undo `reduce`, as far as it can be undone."""

    def pack(self, whole: Tensors) -> bytes:
        """Return one client's whole numbers, name -> int64 (1, ...), as bytes."""
        return b""

    def unpack(self, data: bytes) -> tuple[int, Tensors]:
        """Return how many items were touched, and undo `pack` on the start of an upload.

        Raises
        ------
        MessageError
            For what cannot have come from it.
        """
        return 0, {}

    def whole_size(self, touched: int) -> int:
        """Return the length of `pack`'s result."""
        return 0

    def size(self, touched: int) -> int:
        """Return the bytes of a change by a client that touched so many items."""
        return self.whole_size(touched) + self.codec.size(self.values(touched))

    def encode(self, change: Tensors, rows: Tensor, dither: Ditherer | None) -> bytes:
        """Return the bytes of a change.

        Parameters
        ----------
        change
            name -> float32, of the shapes of a change.
        rows
            int64 (t,), ascending: the items that the client touched.
        dither
            What it rounds by; None rounds to the nearest.
        """
        stacked = {name: tensor.unsqueeze(0) for name, tensor in change.items()}
        values, whole = self.reduce(stacked, rows.unsqueeze(0))
        own = {name: tensor[0] for name, tensor in values.items()}
        drawn = None if dither is None else {n: dither(n, t.numel()) for n, t in own.items()}
        return self.pack(whole) + self.codec.encode(own, drawn)

    def decode(self, data: bytes) -> Tensors:
        """Undo `encode`; raises `MessageError` for whatever cannot have come from it."""
        touched, whole = self.unpack(data)
        values = self.codec.decode(data[self.whole_size(touched) :], self.values(touched))
        stacked = {name: tensor.unsqueeze(0) for name, tensor in values.items()}
        return {name: tensor[0] for name, tensor in self.restore(Reduced(stacked, whole)).items()}


class RowsLayout(UploadCodec):
    """A layout that begins with the ids of the items that a client touched.

    They are unsigned 32-bit integers, their number first.  `n_items` is the number of all items.
    """

    by_rows = True
    n_items: int

    def pack(self, whole: Tensors) -> bytes:
        rows = whole[ROWS][0].cpu().numpy()
        return np.concatenate([[len(rows)], rows]).astype("<u4").tobytes()

    def unpack(self, data: bytes) -> tuple[int, Tensors]:
        rows = unpack_rows(data, self.n_items, self.size)
        return len(rows), {ROWS: rows.unsqueeze(0)}

    def whole_size(self, touched: int) -> int:
        return 4 + 4 * touched


def unpack_rows(data: bytes, n_items: int, size: Callable[[int], int]) -> Tensor:
    """Return the ids that an upload starts with, int64 (t,).

    Parameters
    ----------
    size
        Length of the whole upload for so many items.

    Raises
    ------
    MessageError
        Unless they ascend below `n_items`, and the upload is as long as their number says.
    """
    count = int.from_bytes(data[:4], "little")
    if len(data) < 4 or count > n_items or len(data) != size(count):
        raise MessageError(
            f"payload has {len(data)} bytes, which do not hold the {count} rows it announces"
        )
    ids = np.frombuffer(data, "<u4", count, 4).astype(np.int64)
    if count and (ids[-1] >= n_items or (np.diff(ids) <= 0).any()):
        raise MessageError(f"payload has row ids that do not ascend below {n_items}")
    return torch.from_numpy(ids)
