"""Principal axes: the optimum of a linear autoencoder (Baldi and Hornik 1989)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedpeft.items.networks import CHUNK, Scaling, mlp, start_linear

_FIT_ROWS = 65_536
"""The covariance is measured on at most this many rows, evenly spaced."""


def principal_axes(inputs: Tensor, scaling: Scaling, dim: int) -> Tensor:
    """Return the leading principal axes as columns, float32 of shape (D, min(dim, D)).

    Each axis points so that its largest entry is positive.
    """
    covariance = torch.zeros(inputs.shape[1], inputs.shape[1], dtype=torch.float64)
    for chunk in inputs[:: math.ceil(len(inputs) / _FIT_ROWS)].split(CHUNK):
        centred = scaling(chunk)
        covariance += centred.T @ centred
    axes = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :dim]
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    oriented: Tensor = axes * largest.sign()
    return oriented.float()


def linear_autoencoder(
    inputs: Tensor, scaling: Scaling, hidden: tuple[int, ...], dim: int, rng: torch.Generator
) -> tuple[nn.Sequential, nn.Sequential]:
    """Return encoder [D, hidden..., dim] and its mirror that start at the linear optimum.

    Text vectors have a flat spectrum: from random weights, thousands of steps go by before a ReLU
    network does better than the mean; from here every step improves on the principal components.
    """
    sizes = [inputs.shape[1], *hidden, dim]
    encoder, decoder = mlp(sizes, rng), mlp(sizes[::-1], rng)
    axes = principal_axes(inputs, scaling, dim)
    unit = torch.eye(dim)[:, : axes.shape[1]]
    start_linear(encoder, axes.T, unit)
    start_linear(decoder, unit.T, axes)
    return encoder, decoder
