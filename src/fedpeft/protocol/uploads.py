"""How one client's change becomes the payload of an upload: the layouts, by name.

`dense` sends every value and is the only form for sums.  The others are shorter, and all tell the
server more than a sum would, so they are refused wherever only sums may be seen.

- `rows` sends the rows that the client touched, and which they are: in clear, its items and the
  negatives it drew.
- `rank_one` sends, for each matrix, a column and a row whose product it is.  That is lossless for a
  client that takes one step with a dot-product score; for the full table it spells out the user
  vector up to its length, and how each item's score was off.  For a second-order server it is
  `fedpeft.protocol.histories.HistoryUpload`.
- `actions` sends a few rows, and which of them each item gets; see `fedpeft.protocol.actions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import torch
from torch import Tensor

from fedpeft.errors import ConfigError
from fedpeft.protocol.actions import ActionsUpload
from fedpeft.protocol.encodings import Codec, Shapes
from fedpeft.protocol.layout import (
    ROWS,
    Reduced,
    RowsLayout,
    UploadCodec,
    UploadForm,
)
from fedpeft.tensors import Tensors


class DenseUpload(UploadCodec):
    """Every value of the change."""

    form = "dense"

    def values(self, touched: int) -> Shapes:
        return self.shapes

    def reduce(self, change: Mapping[str, Tensor], rows: Tensor | None = None) -> Reduced:
        return Reduced(dict(change), {})

    def restore(self, sent: Reduced) -> Tensors:
        return sent.values


class RowsUpload(RowsLayout):
    """The touched rows of tensors with one row per item, their ids, and all other tensors whole.

    The number of rows and the ids are unsigned 32-bit integers; ids ascend.

    Parameters
    ----------
    item_indexed
        Names of the tensors with one row per item.
    """

    form = "rows"
    reveals = "which items each client touched: its history among the negatives it drew"

    def __init__(self, codec: Codec, shapes: Shapes, item_indexed: Set[str]) -> None:
        super().__init__(codec, shapes)
        self.item_indexed = frozenset(item_indexed)
        self.n_items = self.shapes[min(item_indexed)][0]

    def values(self, touched: int) -> Shapes:
        return {
            name: torch.Size((touched, *shape[1:])) if name in self.item_indexed else shape
            for name, shape in self.shapes.items()
        }

    def reduce(self, change: Mapping[str, Tensor], rows: Tensor | None = None) -> Reduced:
        """Return the rows of one client; without `rows`, changes that have these rows alone."""
        if rows is None:
            return Reduced(dict(change), {})
        sent = {n: t[:, rows[0]] if n in self.item_indexed else t for n, t in change.items()}
        return Reduced(sent, {ROWS: rows})

    def restore(self, sent: Reduced) -> Tensors:
        if ROWS not in sent.whole:
            return sent.values
        spread = dict(sent.values)
        for name in self.item_indexed:
            rows, tensor = sent.whole[ROWS][0], spread[name]
            nothing = tensor.new_zeros(1, *self.shapes[name])
            spread[name] = nothing.index_copy_(1, rows, tensor)
        return spread


class RankOneUpload(UploadCodec):
    """For each matrix a column and a row vector whose outer product it is."""

    form = "rank_one"
    reveals = "each client's user vector up to length, and how far off each item's score was"

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

    def values(self, touched: int) -> Shapes:
        return self._factors

    def reduce(self, change: Mapping[str, Tensor], rows: Tensor | None = None) -> Reduced:
        """Return columns (C, R) and unit rows (C, w) of matrices of rank one, (C, R, w).

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
        return Reduced(factors, {})

    def restore(self, sent: Reduced) -> Tensors:
        return {
            name: sent.values[column].unsqueeze(-1) * sent.values[row].unsqueeze(-2)
            for name in self.shapes
            for column, row in [_names(name)]
        }


def _names(name: str) -> tuple[str, str]:
    return f"{name}|column", f"{name}|row"


FORMS: Mapping[UploadForm, type[UploadCodec]] = {
    codec.form: codec for codec in (DenseUpload, RowsUpload, RankOneUpload, ActionsUpload)
}
"""The layouts by name."""


def check_item_indexed(form: UploadForm, names: object) -> None:
    """Raise `ConfigError` where a layout needs a tensor with one row per item that is not there."""
    if form in ("rows", "actions") and not names:
        raise ConfigError(
            f"training.upload = {form!r} tells items apart by their rows, but the adapter has no "
            "tensor with one row per item; use 'dense'"
        )


def upload_codec(
    form: UploadForm, codec: Codec, shapes: Shapes, item_indexed: Set[str], actions: int
) -> UploadCodec:
    """Return the codec of a form; raises `ConfigError` where the payload does not allow it."""
    check_item_indexed(form, item_indexed)
    if form == "rows":
        return RowsUpload(codec, shapes, item_indexed)
    if form == "actions":
        return ActionsUpload(codec, shapes, item_indexed, actions)
    if form == "rank_one":
        return RankOneUpload(codec, shapes)
    return DenseUpload(codec, shapes)
