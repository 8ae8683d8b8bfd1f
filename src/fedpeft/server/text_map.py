"""What item texts say of item vectors: a ridge map, fitted to the present table.

It is the prior of collaborative topic regression (Wang and Blei 2011) in the linear form: an item
that few clients have is pulled to where its text puts it, as learnt from all other items.
"""

from __future__ import annotations

import torch
from torch import Tensor


class TextMap:
    """A ridge regression from text vectors to item vectors.

    Parameters
    ----------
    texts
        float (n, D): the items' encoded texts; rows of zeros have none.
    ridge
        Penalty on the map, where texts are scaled to a mean squared length of 1.
    """

    def __init__(self, texts: Tensor, ridge: float = 1.0) -> None:
        self._known = texts.any(1, keepdim=True)
        mean = texts.sum(0) / self._known.sum().clamp(min=1)
        centred = (texts - mean) * self._known
        length = centred.square().sum(1).mean().sqrt().clamp(min=1e-12)
        self._texts = centred / length
        gram = self._texts.T @ self._texts
        gram.diagonal().add_(ridge)
        self._factor = torch.linalg.cholesky(gram)

    def __call__(self, table: Tensor) -> Tensor:
        """Return where texts put the rows of an item table, float (n, k) -> float (n, k)."""
        mean = table.mean(0)
        found: Tensor = self._texts @ torch.cholesky_solve(
            self._texts.T @ (table - mean), self._factor
        )
        return found + mean
