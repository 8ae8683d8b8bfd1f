"""The smallest upload of all, for a second-order server: a reader, and how its own items are off.

With split statistics the change of a client's own items is one number for each of them times the
client's reader, and the second moment of the reader is known once the reader is.  So a client sends
its reader, the items it has, how far off the score of each is, and how much each weighs.  Nothing
is lost, and nothing hidden: it is the client's history in clear.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

import torch
from torch import Tensor

from fedpeft.protocol.encodings import Codec, Shapes
from fedpeft.protocol.layout import (
    ROWS,
    Reduced,
    RowsLayout,
)
from fedpeft.protocol.statistics import MOMENT, WEIGHTS, MomentForm
from fedpeft.tensors import Tensors

READER, OFF = "reader", "items.off"


class HistoryUpload(RowsLayout):
    """A reader, and of each item of the client its id, how far off its score is, and its weight.

    The number of items and the ids are unsigned 32-bit integers; ids ascend.

    Parameters
    ----------
    shapes
        Of one item tensor with one row per item, of `MOMENT` and of `WEIGHTS`.
    columns
        float (r, k): B, where an item's vector moves by a row of that tensor times B; None: by the
        row itself.
    """

    form = "rank_one"
    reveals = "each client's history, and its user vector, in clear"

    def __init__(self, codec: Codec, shapes: Shapes, columns: Tensor | None) -> None:
        super().__init__(codec, shapes)
        (self._name,) = shapes.keys() - {MOMENT, WEIGHTS}
        self._columns = columns
        self.n_items = shapes[WEIGHTS][0]
        self._dim = (isqrt(8 * shapes[MOMENT][0] + 1) - 1) // 2

    def values(self, touched: int) -> Shapes:
        own = torch.Size((touched,))
        return {READER: torch.Size((self._dim,)), OFF: own, WEIGHTS: own}

    def reduce(self, change: Mapping[str, Tensor], rows: Tensor | None = None) -> Reduced:
        """Return what is written of changes; shorter histories are filled up with weights of 0."""
        weights = change[WEIGHTS]
        if rows is None:
            rows, inside = _ascending(weights != 0)
        else:
            inside = torch.ones_like(rows, dtype=torch.bool)
        reader = _root(MomentForm(self._dim).decode(change[MOMENT]))
        pulled = self._pulled(reader)
        length = pulled.square().sum(-1, keepdim=True).clamp(min=1e-30)
        off = torch.bmm(change[self._name], (pulled / length).unsqueeze(-1)).squeeze(-1)
        values = {READER: reader}
        for name, tensor in ((OFF, off), (WEIGHTS, weights)):
            values[name] = torch.where(inside, tensor.gather(1, rows), 0.0)
        return Reduced(values, {ROWS: rows})

    def restore(self, sent: Reduced) -> Tensors:
        reader, rows = sent.values[READER], sent.whole[ROWS]
        off, weights = (
            tensor.new_zeros(len(tensor), self.n_items).scatter_add_(1, rows, tensor)
            for tensor in (sent.values[OFF], sent.values[WEIGHTS])
        )
        moved = off.unsqueeze(-1) * self._pulled(reader).unsqueeze(1)
        return {
            self._name: moved,
            MOMENT: MomentForm(self._dim).of_readers(reader),
            WEIGHTS: weights,
        }

    def _pulled(self, reader: Tensor) -> Tensor:
        """Return the direction in which readers, float (C, k), move item rows, float (C, r)."""
        return reader if self._columns is None else reader @ self._columns.to(reader.device).T


def _root(moments: Tensor) -> Tensor:
    """Return r, float (C, k), up to its sign, of r r', float (C, k, k)."""
    diagonal = moments.diagonal(dim1=-2, dim2=-1)
    largest = diagonal.argmax(-1)
    row = moments[torch.arange(len(moments), device=moments.device), largest]
    root = row.gather(1, largest.unsqueeze(-1)).sqrt()
    return row / root.clamp(min=1e-30)


def _ascending(own: Tensor) -> tuple[Tensor, Tensor]:
    """Return ids of the items that C clients have, int64 (C, t), and which of them are real.

    Parameters
    ----------
    own
        bool (C, n).
    """
    n_items, most = own.shape[1], int(own.sum(1).max()) if len(own) else 0
    ids = torch.arange(n_items, device=own.device).expand_as(own)
    rows = torch.where(own, ids, n_items).sort(1).values[:, :most]
    inside = rows < n_items
    return torch.where(inside, rows, 0), inside
