"""How an adapter spans item tables: item vectors as a linear map of one payload tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Span:
    """Item table = base + P C B, with one payload tensor C.

    Attributes
    ----------
    name
        The payload tensor C, float (R, r).
    rows
        int64 (n, h): the rows of C that an item adds up; None: one of its own (P is the identity).
    share
        What each of them counts: the entries of P.
    columns
        float (r, k): B; None: the identity.
    """

    name: str
    rows: Tensor | None = None
    share: float = 1.0
    columns: Tensor | None = None

    def pull(self, table: Tensor, size: int) -> Tensor:
        """Return P' X B', float (size, r), of a table X, float (n, k): the gradient with C."""
        right = table if self.columns is None else table @ self.columns.T
        if self.rows is None:
            return right
        pulled = right.new_zeros(size, right.shape[1])
        for column in self.rows.unbind(1):
            pulled.index_add_(0, column, right)
        return pulled.mul_(self.share)

    def normal(self, size: int) -> Tensor:
        """Return P'P, float64 (size, size)."""
        assert self.rows is not None  # else it is the identity
        counts = torch.zeros(size * size, dtype=torch.int64, device=self.rows.device)
        for column in self.rows.unbind(1):  # one at a time: all pairs would not fit
            pairs = column.unsqueeze(1) * size + self.rows
            counts += torch.bincount(pairs.flatten(), minlength=size * size)
        return counts.double().mul_(self.share**2).view(size, size)
