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

    def read(self, table: Tensor) -> Tensor:
        """Return X B', float (n, r), of a table X, float (n, k)."""
        return table if self.columns is None else table @ self.columns.T

    def gather(self, read: Tensor, size: int) -> Tensor:
        """Return P' Y, float (size, r), of Y, float (n, r): with Y = X B' the gradient with C."""
        if self.rows is None:
            return read
        gathered = read.new_zeros(size, read.shape[1])
        for column in self.rows.unbind(1):
            gathered.index_add_(0, column, read)
        return gathered.mul_(self.share)

    def normal(self, size: int) -> Tensor:
        """Return P'P, float64 (size, size)."""
        assert self.rows is not None  # else it is the identity
        counts = torch.zeros(size * size, dtype=torch.int64, device=self.rows.device)
        for column in self.rows.unbind(1):  # one at a time: all pairs would not fit
            pairs = column.unsqueeze(1) * size + self.rows
            counts += torch.bincount(pairs.flatten(), minlength=size * size)
        return counts.double().mul_(self.share**2).view(size, size)
