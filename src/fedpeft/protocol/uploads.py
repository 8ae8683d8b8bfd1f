"""How one client's change becomes the payload of an upload: dense, touched rows, or rank one.

`dense` sends every value and is the only form for sums.  The other two are shorter, and both tell
the server more than a sum would, so they are refused wherever only sums may be seen.

- `rows` sends the rows that the client touched, and which they are: in clear, its items and the
  negatives it drew.
- `rank_one` sends, for each matrix, a column and a row whose product it is.  That is lossless for a
  client that takes one step with a dot-product score; for the full table it spells out the user
  vector up to its length, and how each item's score was off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fedpeft.errors import ConfigError
from fedpeft.protocol.encodings import Codec, Shapes
from fedpeft.protocol.wire import MessageError
from fedpeft.tensors import Tensors

UploadForm = Literal["dense", "rows", "rank_one"]
Ditherer = Callable[[str, int], Tensor]
"""``(name, N) -> float (1, N)``: what a client rounds the N values of a tensor by."""


class UploadCodec(ABC):
    """Turns one client's change into bytes and back.

    Parameters
    ----------
    codec
        How values are written.
    shapes
        Names and shapes of the payload.
    """

    form: ClassVar[UploadForm]

    def __init__(self, codec: Codec, shapes: Shapes) -> None:
        self.codec = codec
        self.shapes = dict(shapes)

    @abstractmethod
    def encode(self, change: Tensors, rows: Tensor, dither: Ditherer | None) -> bytes:
        """Return the bytes of a change.

        Parameters
        ----------
        change
            name -> float32, the shape of the payload.
        rows
            int64 (t,), ascending: the items that the client touched.
        dither
            What it rounds by; None rounds to the nearest.
        """

    @abstractmethod
    def decode(self, data: bytes) -> Tensors:
        """Undo `encode`; raises `MessageError` for whatever cannot have come from it."""

    @abstractmethod
    def size(self, touched: int) -> int:
        """Return the bytes of a change by a client that touched so many items."""

    def _encode(self, tensors: Tensors, dither: Ditherer | None) -> bytes:
        if dither is None:
            return self.codec.encode(tensors)
        drawn = {name: dither(name, tensor.numel()) for name, tensor in tensors.items()}
        return self.codec.encode(tensors, drawn)


class DenseUpload(UploadCodec):
    """Every value of the change."""

    form = "dense"

    def encode(self, change: Tensors, rows: Tensor, dither: Ditherer | None) -> bytes:
        return self._encode(change, dither)

    def decode(self, data: bytes) -> Tensors:
        return self.codec.decode(data, self.shapes)

    def size(self, touched: int) -> int:
        return self.codec.size(self.shapes)


class RowsUpload(UploadCodec):
    """The touched rows of tensors with one row per item, their ids, and all other tensors whole.

    The number of rows and the ids are unsigned 32-bit integers; ids ascend.

    Parameters
    ----------
    item_indexed
        Names of the tensors with one row per item.
    """

    form = "rows"

    def __init__(self, codec: Codec, shapes: Shapes, item_indexed: Set[str]) -> None:
        super().__init__(codec, shapes)
        check_item_indexed(item_indexed)
        self.item_indexed = frozenset(item_indexed)
        self._items = self.shapes[min(item_indexed)][0]

    def encode(self, change: Tensors, rows: Tensor, dither: Ditherer | None) -> bytes:
        ids = np.concatenate([[len(rows)], rows.cpu().numpy()]).astype("<u4")
        sent = {n: t[rows] if n in self.item_indexed else t for n, t in change.items()}
        return ids.tobytes() + self._encode(sent, dither)

    def decode(self, data: bytes) -> Tensors:
        count = int.from_bytes(data[:4], "little")
        if len(data) < 4 or count > self._items or len(data) != self.size(count):
            raise MessageError(
                f"payload has {len(data)} bytes, which do not hold the {count} rows it announces"
            )
        ids = np.frombuffer(data, "<u4", count, 4).astype(np.int64)
        if count and (ids[-1] >= self._items or (np.diff(ids) <= 0).any()):
            raise MessageError(f"payload has row ids that do not ascend below {self._items}")
        rows = torch.from_numpy(ids)
        whole = {}
        for name, tensor in self.codec.decode(data[4 + 4 * count :], self._cut(count)).items():
            if name in self.item_indexed:
                tensor = torch.zeros(self.shapes[name]).index_copy_(0, rows, tensor)
            whole[name] = tensor
        return whole

    def size(self, touched: int) -> int:
        return 4 + 4 * touched + self.codec.size(self._cut(touched))

    def _cut(self, rows: int) -> Shapes:
        """Return the shapes of what is sent for so many rows."""
        return {
            name: torch.Size((rows, *shape[1:])) if name in self.item_indexed else shape
            for name, shape in self.shapes.items()
        }


def check_item_indexed(names: object) -> None:
    """Raise `ConfigError` where there is no tensor with one row per item."""
    if not names:
        raise ConfigError(
            "training.upload = 'rows' sends the rows of touched items, but the adapter has no "
            "tensor with one row per item; use 'dense'"
        )


class RankOneUpload(UploadCodec):
    """For each matrix a column and a row vector whose outer product it is."""

    form = "rank_one"

    def __init__(self, codec: Codec, shapes: Shapes) -> None:
        super().__init__(codec, shapes)
        odd = sorted(name for name, shape in shapes.items() if len(shape) != 2)
        if odd:
            raise ConfigError(
                f"training.upload = 'rank_one' sends matrices, but {odd[0]} has "
                f"{len(shapes[odd[0]])} dimensions; use 'dense'"
            )
        self._factors = {
            factor: torch.Size((length,))
            for name, shape in shapes.items()
            for factor, length in zip(_names(name), shape, strict=True)
        }

    def encode(self, change: Tensors, rows: Tensor, dither: Ditherer | None) -> bytes:
        stacked = {name: tensor.unsqueeze(0) for name, tensor in change.items()}
        return self._encode({n: t[0] for n, t in factorise(stacked).items()}, dither)

    def decode(self, data: bytes) -> Tensors:
        factors = self.codec.decode(data, self._factors)
        stacked = {name: tensor.unsqueeze(0) for name, tensor in factors.items()}
        return {name: tensor[0] for name, tensor in multiply(stacked, self.shapes).items()}

    def size(self, touched: int) -> int:
        return self.codec.size(self._factors)


def _names(name: str) -> tuple[str, str]:
    return f"{name}|column", f"{name}|row"


def factorise(change: Mapping[str, Tensor]) -> Tensors:
    """Return columns (C, R) and unit rows (C, w) of matrices of rank one, (C, R, w), by name.

    The row is the matrix' longest row, scaled to length 1; zero where the matrix is.
    """
    factors = {}
    for name, tensor in change.items():
        longest = tensor.square().sum(-1).argmax(1)
        row = tensor[torch.arange(len(tensor), device=tensor.device), longest]
        row = row / row.norm(dim=-1, keepdim=True).clamp(min=1e-30)
        column, unit = _names(name)
        factors[column] = torch.bmm(tensor, row.unsqueeze(-1)).squeeze(-1)
        factors[unit] = row
    return factors


def multiply(factors: Mapping[str, Tensor], shapes: Shapes) -> Tensors:
    """Undo `factorise`, for the tensors named in `shapes`."""
    return {
        name: factors[column].unsqueeze(-1) * factors[row].unsqueeze(-2)
        for name in shapes
        for column, row in [_names(name)]
    }


def upload_codec(
    form: UploadForm, codec: Codec, shapes: Shapes, item_indexed: Set[str]
) -> UploadCodec:
    """Return the codec of a form; raises `ConfigError` where the payload does not allow it."""
    if form == "rows":
        return RowsUpload(codec, shapes, item_indexed)
    if form == "rank_one":
        return RankOneUpload(codec, shapes)
    return DenseUpload(codec, shapes)
