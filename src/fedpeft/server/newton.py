"""Newton's method for least squares, on sums that clients send: a second-order server optimiser.

A client u with reader r (its score of item i is r . v_i) costs, over all items,

    sum over own items w (r.v - 1)^2 / 2  +  a0 / 2 * sum over all items (r.v)^2
    +  lambda / 2 * (sum over own items w |v|^2  +  a0 * sum over all items |v|^2).

Its change holds the first part of both lines, which concern its own items.  The rest follows from
S = sum over clients of r r', which it sends beside it, k (k + 1) / 2 values: over m clients the
gradient with the item table V, n x k, and an approximation of its curvature are

    G = R + a0 V S + lambda a0 m V + p (V - E)
    f_i H + p  with  H = S / m + lambda I,  f_i = c_i + a0 m

where R is the sum of what clients sent, c_i the sum of the weights of item i, and p observations at
the pretrained base E are the prior.  One step moves V by -lr times the gradient over the curvature;
an adapter V = E + P C B takes the exact step within its span, the solution D of

    (P' diag(f) P) D (B H B')  +  p P'P D  =  P' G B'.

The statistics are those of implicit alternating least squares (Hu, Koren and Volinsky 2008); here
all items move at once, by curvature that is shared up to a factor, and nobody sends a count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedpeft.adapters import ItemEmbedding
from fedpeft.adapters.span import Span
from fedpeft.protocol.statistics import square


@dataclass(frozen=True)
class Curvature:
    """What the step needs besides what clients sent; all per client of the round.

    Attributes
    ----------
    unobserved
        a0: weight of the squared score of every item.
    decay
        lambda.
    prior
        p: observations of an item that the base counts as.
    counts
        c: float (n,), or one number for all items.
    """

    unobserved: float
    decay: float
    prior: float
    counts: Tensor | float


def newton_step(
    item: ItemEmbedding,
    table: Tensor,
    anchor: Tensor | None,
    residual: Tensor,
    moment: Tensor,
    curvature: Curvature,
) -> Tensor:
    """Return D, the whole step that is to be taken off the payload tensor, float (R, r).

    Parameters
    ----------
    item
        Knows how the payload spans item tables; its parameters are not read.
    table
        float (n, k): V.
    anchor
        float (n, k): E; only with a prior.
    residual
        float (R, r): what clients sent, as a gradient, mean over clients.
    moment
        float (k (k + 1) / 2,): the upper triangle of S / m.
    """
    span = item.span()
    assert span is not None  # `Task.check` saw to it
    moment = _positive(square(moment, table.shape[1]))
    pulled = table @ (curvature.unobserved * moment)
    pulled = pulled.add_(table, alpha=curvature.decay * curvature.unobserved)
    if curvature.prior and anchor is not None:
        pulled = pulled.add_(table - anchor, alpha=curvature.prior)
    gradient = residual + span.pull(pulled, len(residual))

    hessian = moment + curvature.decay * torch.eye(len(moment), device=moment.device)
    if span.columns is not None:
        hessian = span.columns @ hessian @ span.columns.T
    scales, axes = torch.linalg.eigh(hessian.double())
    # directions in which no reader differs: nothing is known of them, so they do not move
    scales = scales.where(scales > _SMALLEST * scales[-1], torch.inf)
    weights = torch.as_tensor(curvature.counts, device=table.device).expand(len(table))
    weights = weights + curvature.unobserved
    solved: Tensor = _solved(span, weights, scales, gradient.double() @ axes, curvature) @ axes.T
    return solved.to(residual.dtype)


_RIDGE = 1e-3
"""Added to normal equations, as a multiple of their mean diagonal: where items share rows, some
sums of rows are not determined, and others by few items."""
_SMALLEST = 1e-6
"""Curvature, against the largest, that rounding alone may leave."""


def _positive(moment: Tensor) -> Tensor:
    """Return a symmetric matrix without its negative part, which rounding and noise bring in."""
    scales, axes = torch.linalg.eigh(moment.double())
    found: Tensor = (axes * scales.clamp(min=0)) @ axes.T
    return found.to(moment.dtype)


def _solved(
    span: Span, weights: Tensor, scales: Tensor, right: Tensor, curvature: Curvature
) -> Tensor:
    """Return the solution for each axis of the curvature, float64 (R, r)."""
    prior = curvature.prior
    if span.rows is None:
        return right / (weights.double().unsqueeze(1) * scales + prior)
    size = len(right)
    normal = span.normal(weights, size)
    normal.diagonal().add_(_RIDGE * float(normal.diagonal().mean()))
    if not prior:
        return torch.cholesky_solve(right, torch.linalg.cholesky(normal)) / scales
    pull = span.normal(torch.full_like(weights, prior), size)
    columns = [
        torch.cholesky_solve(
            right[:, place : place + 1], torch.linalg.cholesky(scale * normal + pull)
        )
        for place, scale in enumerate(scales)
    ]
    return torch.cat(columns, 1)
