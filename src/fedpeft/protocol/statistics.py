"""What a client sends beside its change for a second-order step: its reader's second moment.

A reader is the vector r with score(v) = r . v for an item that is new to the client.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MOMENT = "reader.moment"
"""The name of a second moment in an upload."""
WEIGHTS = "items.weight"
"""The name of how much each item weighs in a client's loss, n values, 0 for those it does not
have: in uploads that tell of histories anyway, instead of the client's part of the items' penalty.
"""


@dataclass(frozen=True, eq=False)
class MomentForm:
    """How much of S = r r' travels: its upper triangle, row by row, or S B' where that is less.

    Attributes
    ----------
    dim
        k.
    columns
        float (r, k): the B of an adapter that moves items within its rows; None: the triangle.
    """

    dim: int
    columns: Tensor | None = None

    @classmethod
    def of(cls, dim: int, columns: Tensor | None) -> MomentForm:
        """Return the smaller form for an adapter with these columns, which may be None."""
        if columns is None or dim * len(columns) >= dim * (dim + 1) // 2:
            return cls(dim)
        return cls(dim, columns)

    @property
    def size(self) -> int:
        """Values that travel."""
        if self.columns is None:
            return self.dim * (self.dim + 1) // 2
        return self.dim * len(self.columns)

    def of_readers(self, readers: Tensor) -> Tensor:
        """Return what each client sends, float (C, k) -> float (C, size)."""
        if self.columns is not None:
            return (readers.unsqueeze(-1) * (readers @ self.columns.T).unsqueeze(-2)).flatten(1)
        rows, columns = self._triangle(readers.device)
        return (readers.unsqueeze(-1) * readers.unsqueeze(-2))[:, rows, columns]

    def of_sum(self, moment: Tensor) -> Tensor:
        """Return what clients with this sum of r r', float (k, k), send in all, float (size,)."""
        if self.columns is not None:
            return (moment @ self.columns.T).flatten()
        rows, columns = self._triangle(moment.device)
        return moment[rows, columns]

    def decode(self, sent: Tensor) -> Tensor:
        """Return S B', (..., k, r), or S, (..., k, k), of what was sent, float (..., size)."""
        if self.columns is not None:
            product: Tensor = sent.unflatten(-1, (self.dim, -1))
            return product
        rows, columns = self._triangle(sent.device)
        found = sent.new_zeros(*sent.shape[:-1], self.dim, self.dim)
        found[..., rows, columns] = sent
        found[..., columns, rows] = sent
        return found

    def _triangle(self, device: torch.device) -> Tensor:
        return torch.triu_indices(self.dim, self.dim, device=device)


def item_weights(items: Tensor, weight: Tensor, n_items: int) -> Tensor:
    """Return how much each item weighs for C clients, float (C, n).

    Parameters
    ----------
    items
        int64 (C, L): train items.
    weight
        float (C, L): what each weighs, 0 for padding.
    """
    return weight.new_zeros(len(items), n_items).scatter_add_(1, items, weight)
