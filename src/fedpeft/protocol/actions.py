"""Uploads as actions: a few rows, and which of them each item gets (FedRAS, arXiv 2507.08842).

A client clusters the changes of its items' rows by k-means.  It sends the centres, which are its
actions, and the number of each item's action.  Action 0 is to leave an item as it is; all items
that the client did not move have it, and it takes no values.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

import torch
from torch import Tensor

from fedpeft.errors import ArtifactError
from fedpeft.memory import at_once
from fedpeft.packing import pack_bits, unpack_bits
from fedpeft.protocol.encodings import Codec, Shapes
from fedpeft.protocol.layout import Reduced, UploadCodec
from fedpeft.protocol.wire import MessageError
from fedpeft.tensors import Tensors

STEPS = 4
"""Steps of Lloyd's algorithm."""
_ROUNDING = 1e-5


class ActionsUpload(UploadCodec):
    """The actions of tensors with one row per item, each item's action, and other tensors whole.

    Numbers of actions take as many bits as the largest needs, packed, tensor after tensor.

    Parameters
    ----------
    item_indexed
        Names of the tensors with one row per item.
    actions
        K, the action that leaves an item as it is among them.
    """

    form = "actions"
    lossless = False
    reveals = "which items each client moved, and which of them alike"

    def __init__(self, codec: Codec, shapes: Shapes, item_indexed: Set[str], actions: int) -> None:
        super().__init__(codec, shapes)
        self.item_indexed = sorted(item_indexed)
        self._actions = actions
        self._bits = (actions - 1).bit_length()

    def values(self, touched: int) -> Shapes:
        few = self._actions - 1
        return {
            name: torch.Size((few, *shape[1:])) if name in self.item_indexed else shape
            for name, shape in self.shapes.items()
        }

    def reduce(self, change: Mapping[str, Tensor], rows: Tensor | None = None) -> Reduced:
        values, whole = dict(change), {}
        for name in self.item_indexed:
            flat = change[name].flatten(2)
            centres, whole[name] = cluster(flat, self._actions - 1)
            values[name] = centres.unflatten(2, self.shapes[name][1:])
        return Reduced(values, whole)

    def restore(self, sent: Reduced) -> Tensors:
        spread = dict(sent.values)
        for name in self.item_indexed:
            centres = spread[name]
            book = torch.cat([torch.zeros_like(centres[:, :1]), centres], 1)
            clients = torch.arange(len(book), device=book.device).unsqueeze(1)
            spread[name] = book[clients, sent.whole[name]]
        return spread

    def pack(self, whole: Tensors) -> bytes:
        return b"".join(pack_bits(whole[name][0], self._bits) for name in self.item_indexed)

    def unpack(self, data: bytes) -> tuple[int, Tensors]:
        if len(data) != self.size(0):
            raise MessageError(f"payload has {len(data)} bytes, its layout takes {self.size(0)}")
        whole, start = {}, 0
        for name in self.item_indexed:
            end = start + self._packed(name)
            try:
                chosen = unpack_bits(data[start:end], self._bits, self.shapes[name][0])
            except ArtifactError as error:
                raise MessageError(str(error)) from None
            if len(chosen) and int(chosen.max()) >= self._actions:
                raise MessageError(
                    f"payload names action {int(chosen.max())}, but there are {self._actions}"
                )
            whole[name], start = chosen.unsqueeze(0), end
        return 0, whole

    def whole_size(self, touched: int) -> int:
        return sum(map(self._packed, self.item_indexed))

    def _packed(self, name: str) -> int:
        """Return the bytes of the numbers of one tensor's actions."""
        return -(-self._bits * self.shapes[name][0] // 8)


def cluster(rows: Tensor, centres: int) -> tuple[Tensor, Tensor]:
    """Cluster the rows of C clients, each its own; rows of zeros stay outside.

    Lloyd's algorithm begins at quantiles of the rows along the longest of them.  That takes no
    random number, and is near the best where all rows point one way, as those of one step on a
    dot-product score do.  Where there are at most as many rows as centres it is exact, but for rows
    that differ by less than 0.3 % of the longest.  It ends with means, so the sum over rows is
    kept.

    Parameters
    ----------
    rows
        float (C, R, w).
    centres
        K - 1.

    Returns
    -------
    Centres, float (C, K - 1, w), and for each row the number of its centre from 1 on, 0 for rows of
    zeros, int64 (C, R).
    """
    parts = rows.split(at_once(rows.shape[1] * centres, rows.device))
    found = [_lloyd(part, centres) for part in parts]
    return torch.cat([book for book, _ in found]), torch.cat([chosen for _, chosen in found])


def _lloyd(rows: Tensor, centres: int) -> tuple[Tensor, Tensor]:
    """Do what `cluster` does, at once."""
    moved = (rows != 0).any(-1)
    columns = (-1, -1, rows.shape[2])
    book = rows.gather(1, _quantiles(rows, moved, centres).unsqueeze(-1).expand(columns))
    nearest = torch.zeros_like(moved, dtype=torch.int64)
    for _ in range(STEPS):
        nearest = _nearest(rows, book)
        chosen = nearest.unsqueeze(-1)
        sums = torch.zeros_like(book).scatter_add_(1, chosen.expand(columns), rows)
        sizes = torch.zeros_like(book[..., :1])  # rows of zeros count nowhere
        sizes.scatter_add_(1, chosen, moved.to(rows.dtype).unsqueeze(-1))
        book = torch.where(sizes > 0, sums / sizes.clamp(min=1), book)
    return book, torch.where(moved, nearest + 1, 0)


def _quantiles(rows: Tensor, moved: Tensor, count: int) -> Tensor:
    """Return which rows are at so many quantiles along the longest one, int64 (C, count)."""
    longest = _first_of_least(-rows.square().sum(-1), 0.0)
    axis = rows[torch.arange(len(rows), device=rows.device), longest]
    along = torch.bmm(rows, axis.unsqueeze(-1)).squeeze(-1)
    order: Tensor = along.masked_fill(~moved, torch.inf).argsort(stable=True)
    middles = (2 * torch.arange(count, device=rows.device) + 1) * moved.sum(1, keepdim=True)
    return order.gather(1, middles // (2 * count))


def _nearest(rows: Tensor, book: Tensor) -> Tensor:
    """Return the number of the centre, float (C, K - 1, w), nearest to each row, int64 (C, R)."""
    squares = book.square().sum(-1).unsqueeze(1)
    distance = torch.baddbmm(squares, rows, book.transpose(1, 2), alpha=-2)
    return _first_of_least(distance, rows.square().sum(-1, keepdim=True))


def _first_of_least(values: Tensor, size: Tensor | float) -> Tensor:
    """Return the place of the least value, float (..., N); among equals, but for rounding, the
    first.

    Equals are usual, as a pair of BPR moves two rows as far, and every backend has to find the
    same.  `size`, float (..., 1), is what rounding is measured by besides the value itself.
    """
    least = values.amin(-1, keepdim=True)
    equal = values <= least + _ROUNDING * (least.abs() + size)
    return equal.to(torch.uint8).argmax(-1)
