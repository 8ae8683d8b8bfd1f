"""What a client sends beside its change for a second-order step: its reader's second moment.

A reader is the vector r with score(v) = r . v for an item that is new to the client.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOMENT = "reader.moment"
"""The name of r r' in an upload: its upper triangle, row by row."""


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
    """Return the symmetric (dim, dim) matrix of an upper triangle."""
    rows, columns = torch.triu_indices(dim, dim, device=triangle.device)
    found = triangle.new_zeros(dim, dim)
    found[rows, columns] = triangle
    found[columns, rows] = triangle
    return found
