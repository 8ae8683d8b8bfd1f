"""Clients of similar history length in one padded tensor, as the fast backends take them."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from fedpeft.tensors import Tensors

CELLS_PER_ITEM = 64
"""Distinct items are found in a table of clients x catalogue of at most so many cells an item; a
larger one costs more in page faults than sorting costs."""


@dataclass(frozen=True, eq=False)
class Bucket:
    """Clients of similar history length, padded to the longest.

    Attributes
    ----------
    rows
        int64 (C,): places of the clients in the population's tensors.
    ids
        int64 (C,): numbers that name their streams.
    items
        int64 (C, L, 1 + m): each train item, then the m negatives drawn for it; padding is 0.
    weight
        float32 (C, L): importance of each train item in the loss, 0 for padding.
    lengths
        int64 (C,): train items of each client.
    """

    rows: Tensor
    ids: Tensor
    items: Tensor
    weight: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice | Tensor) -> Bucket:
        return Bucket(
            self.rows[part], self.ids[part], self.items[part], self.weight[part], self.lengths[part]
        )

    def within(self, clients: int) -> Iterator[Bucket]:
        """Yield the clients at most so many, but at least one, at a time."""
        for start in range(0, len(self), max(1, clients)):
            yield self[start : start + max(1, clients)]

    def compact(self, n_items: int) -> tuple[Tensor, Tensor]:
        """Return the distinct items of each client, and `items` renumbered to them.

        Returns
        -------
        rows
            int64 (C, M): a client's distinct items (padding among them), filled up with item 0.
        places
            int64 (C, L, 1 + m): positions in `rows`.
        """
        items = self.items.flatten(1)
        clients, width = items.shape
        keys = items + torch.arange(clients, device=items.device).unsqueeze(1) * n_items
        size = clients * n_items
        if size > CELLS_PER_ITEM * items.numel():
            distinct, keys = torch.unique(keys, return_inverse=True)
            size = len(distinct)
        # each item elects one of the columns where it stands; a table that is never cleared holds
        # the winners, which takes a fifth of the time of sorting
        columns = torch.arange(width, device=items.device).expand(clients, width)
        table = items.new_empty(size).scatter_(0, keys.flatten(), columns.flatten())
        elected = table[keys]
        position = (elected == columns).cumsum(1) - 1
        places = position.gather(1, elected)
        rows = items.new_zeros(clients, int(position.max()) + 1).scatter_(1, places, items)
        return rows, places.view(self.items.shape)


def ascending(
    bucket: Bucket, rows: Tensor, places: Tensor, change: Tensors, indexed: Set[str]
) -> tuple[Tensor, Tensors]:
    """Return rows as their ids ascend, and the changes of these rows in the same order.

    Rows that a client did not touch, such as padding, come last; they have not moved.

    Parameters
    ----------
    rows, places
        As `Bucket.compact` returned them.
    change
        name -> float (C, ...), with (C, M, ...) for the names in `indexed`.
    """
    real = (bucket.weight > 0).unsqueeze(-1).expand(bucket.items.shape).flatten(1)
    touched = torch.zeros_like(rows).scatter_add_(1, places.flatten(1), real.long()) > 0
    last = torch.where(touched, rows, torch.iinfo(torch.int64).max)
    order = last.argsort(1)
    sorted_rows = torch.where(touched, rows, 0).gather(1, order)
    moved = dict(change)
    for name in indexed:
        tensor = change[name]
        index = order.view(*order.shape, *[1] * (tensor.dim() - 2)).expand_as(tensor)
        moved[name] = tensor.gather(1, index)
    return sorted_rows, moved


def stacked_rows(index: Tensor, size: int) -> Tensor:
    """Return row numbers, int64 (C, ...), of C tables of `size` rows once they are one below the
    other."""
    starts = torch.arange(len(index), device=index.device) * size
    return index + starts.view(-1, *[1] * (index.dim() - 1))
