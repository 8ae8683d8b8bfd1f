"""EASE: every item's score is a weighted sum over the items of the history, in closed form.

Minimises, over item-to-item weights B with a diagonal of zeros,

    sum over users |x - x B|^2 + lambda |B|^2

with x a user's row of the training data (Steck 2019, "Embarrassingly shallow autoencoders for
sparse data").  Each column of B is the ridge regression of one item on all others.  The solution
is B = I - P diag(1 / diag P), with P the inverse of X'X + lambda I.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import embedding_bag

from fedpeft.config import ConfigModel
from fedpeft.data.dataset import Histories
from fedpeft.data.ragged import take
from fedpeft.data.recency import RecencyConfig
from fedpeft.errors import RunError
from fedpeft.evaluation.protocol import Scorer

MOST_ITEMS = 20_000
"""Items up to which the n x n matrices are made: three of them in float32 are 4.8 GB there."""

_MULTIPLE = 3.0

_BLOCK = 1024  # rows of the Gram matrix made at once


class EASEConfig(ConfigModel):
    """Settings of the item-to-item weights."""

    regularisation: float = Field(gt=0)
    """lambda: weight of the squared item-to-item weights."""
    recency: RecencyConfig = RecencyConfig()
    """How the age of an interaction weighs it in the history that is scored."""

    @classmethod
    def by_rule(cls, gram: Tensor, **settings: Any) -> Self:
        """Return a lambda of 3 times the mean of the diagonal of X'X, with others as given.

        That mean is an item's mean count in the train part, where events do not weigh.
        """
        mean = float(gram.diagonal().mean())
        return cls(regularisation=_MULTIPLE * (mean or 1.0), **settings)


def gram_of(train: Histories, n_items: int) -> Tensor:
    """Return X'X, float32 (n, n); X has the weight of each interaction by its event, or 1."""
    weights = RecencyConfig().of(train)
    rows = csr_array((weights, train.items, train.indptr), shape=(train.n_users, n_items))
    columns = rows.T.tocsr()
    gram = np.empty((n_items, n_items), np.float32)
    for start in range(0, n_items, _BLOCK):
        block = slice(start, start + _BLOCK)
        gram[block] = (columns[block] @ rows).toarray()
    return torch.from_numpy(gram)


def item_weights(gram: Tensor, regularisation: float) -> Tensor:
    """Return B for X'X and lambda, shaped as `gram`; `gram` is left as it is.

    Raises
    ------
    RunError
        If the system cannot be solved in the precision of `gram` (regularisation too small).
    """
    system = gram.clone()
    system.diagonal().add_(regularisation)
    factor, trouble = torch.linalg.cholesky_ex(system)
    del system
    if bool(trouble):
        raise RunError(
            f"the system of EASE is singular in {gram.dtype}; regularisation = "
            f"{regularisation:g} is too small"
        )
    weights = torch.cholesky_inverse(factor).mT.contiguous()  # LAPACK's are by column
    weights /= -weights.diagonal().clone()
    weights.diagonal().zero_()
    return weights


def ease_scorer(weights: Tensor, histories: Histories, recency: RecencyConfig) -> Scorer:
    """Return the scorer that sends each user's weighted history through B."""

    def score(users: Tensor) -> Tensor:
        own = take(histories, users.numpy())
        return embedding_bag(
            torch.from_numpy(own.items),
            weights,
            torch.from_numpy(own.indptr),
            mode="sum",
            per_sample_weights=torch.from_numpy(recency.of(own)),
            include_last_offset=True,
        )

    return score
