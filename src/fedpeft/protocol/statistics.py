"""What a client sends beside its change for a second-order step: its reader's second moment.

A reader is the vector r with score(v) = r . v for an item that is new to the client.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOMENT = "reader.moment"
"""The name of r r' in an upload: its upper triangle, row by row."""
WEIGHTS = "items.weight"
"""The name of how much each item weighs in a client's loss, n values, 0 for those it does not
have: in uploads that tell of histories anyway, instead of the client's part of the items' penalty.
"""


def triangle_size(dim: int) -> int:
    """Return the values of a symmetric (dim, dim) matrix."""
    return dim * (dim + 1) // 2


def triangle(matrices: Tensor) -> Tensor:
    """Return the upper triangles, float (..., k (k + 1) / 2), of matrices, float (..., k, k)."""
    rows, columns = torch.triu_indices(*matrices.shape[-2:], device=matrices.device)
    return matrices[..., rows, columns]


def moments(readers: Tensor) -> Tensor:
    """Return r r' of readers, float (..., k) -> float (..., k (k + 1) / 2)."""
    return triangle(readers.unsqueeze(-1) * readers.unsqueeze(-2))


def square(triangle: Tensor, dim: int) -> Tensor:
    """Return the symmetric matrices, float (..., k, k) with k = `dim`, of upper triangles."""
    rows, columns = torch.triu_indices(dim, dim, device=triangle.device)
    found = triangle.new_zeros(*triangle.shape[:-1], dim, dim)
    found[..., rows, columns] = triangle
    found[..., columns, rows] = triangle
    return found


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
