"""Newton's method for least squares, on sums that clients send: a second-order server optimiser.

A client u with reader r (its score of item i is r . v_i) costs, over all items,

    sum over own items w (r.v - 1)^2 / 2  +  a0 / 2 * sum over all items (r.v)^2
    +  lambda / 2 * (sum over own items w |v|^2  +  a0 * sum over all items |v|^2).

Its change holds the first part of both lines, which concern its own items.  The rest follows from
S = sum over clients of r r', which it sends beside it, k (k + 1) / 2 values: over m clients the
gradient with the item table V, n x k, and an approximation of its curvature are

    G = R + a0 V S + lambda a0 m V + p (V - E)
    f H + p  with  H = S / m + lambda I,  f = (c + a0) m

where R is the sum of what clients sent, c what an item weighs in the loss of a client on average,
and the prior counts as p observations at the vectors E.  One step moves V by -lr times the gradient
over the curvature; an adapter V = E + P C B takes the exact step within its span, the solution D of

    f P'P D (B H B')  +  p P'P D  =  P' G B'.

Of S it needs S B' alone, k r values, which clients send where that is less.  The statistics are
those of implicit alternating least squares (Hu, Koren and Volinsky 2008); here
all items move at once, by one curvature, and nobody sends a count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedpeft.adapters import ItemEmbedding
from fedpeft.protocol.aggregate import Partial
from fedpeft.protocol.statistics import MOMENT, WEIGHTS, MomentForm
from fedpeft.server.state import ServerState
from fedpeft.server.text_map import TextMap
from fedpeft.tensors import Tensors
from fedpeft.training.optimizer import ServerOptimizerConfig
from fedpeft.training.task import Task, item_payload


class Newton:
    """The second-order optimiser of a server.

    Parameters
    ----------
    task
        What the run has agreed on; its clients split their statistics.
    texts
        float (n, D): the items' encoded texts, for a prior that reads them.
    device
        Where its tensors live.
    """

    def __init__(self, task: Task, texts: Tensor | None, device: torch.device) -> None:
        self._task, self._device = task, device
        config = task.training.server_optimizer
        self._keeps_base = config.prior > 0 and config.prior_at == "base"
        mapped = config.prior > 0 and not self._keeps_base
        self._text_map = TextMap(texts.to(device)) if mapped and texts is not None else None

    def anchor(self, base: Tensor) -> Tensor | None:
        """Return what the prior pulls to for good, float (n, k), where it is the base."""
        return base.to(self._device) if self._keeps_base else None

    def step(self, state: ServerState, total: Partial, factor: float) -> tuple[Tensors, Tensors]:
        """Return payload and moments after a step; `factor` is on the learning rate."""
        config = self._task.training.server_optimizer_at(state.phase)
        moments = {name: tensor / total.weight for name, tensor in total.sum.items()}
        for name in moments.keys() & state.moments.keys():
            moments[name] = torch.lerp(moments[name], state.moments[name], config.momentum)
        (name,) = state.payload
        table = state.item.merge(item_payload(state.payload))
        anchor = state.anchor if self._text_map is None else self._text_map(table)
        assert anchor is not None or not config.prior  # settings say that there are texts
        form = self._task.moment_form(state.item)
        step = newton_step(
            state.item,
            table,
            anchor,
            -moments[name],
            moments[MOMENT],
            form,
            self._curvature(config),
            moments.get(WEIGHTS),
        )
        payload = {name: state.payload[name] - config.lr * factor * step}
        return payload, moments if config.momentum else {}

    def _curvature(self, config: ServerOptimizerConfig) -> Curvature:
        assert config.item_weight is not None  # settings are resolved
        return Curvature(
            unobserved=self._task.loss.unobserved_weight,
            decay=self._task.frequency_decay,
            prior=config.prior / (config.population or 1),
            weight=config.item_weight,
        )


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
        p: observations that E counts as, for each item.
    weight
        c: what an item weighs in the loss of a client.
    """

    unobserved: float
    decay: float
    prior: float
    weight: float


def newton_step(
    item: ItemEmbedding,
    table: Tensor,
    anchor: Tensor | None,
    residual: Tensor,
    moment: Tensor,
    form: MomentForm,
    curvature: Curvature,
    weights: Tensor | None = None,
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
        float (size,): S / m, as it travels.
    weights
        float (n,): what each item weighs in the loss of a client, mean over clients, where the
        residual lacks their penalty.
    """
    span = item.span()
    assert span is not None  # `Task.check` saw to it
    sent = form.decode(moment)
    right = sent if form.columns is not None else span.read(_positive(sent))  # S B'
    pulled = span.read(table) * (curvature.decay * curvature.unobserved)
    pulled = pulled.add_(table @ right, alpha=curvature.unobserved)
    if weights is not None:
        pulled = pulled.addcmul_(span.read(table), weights.unsqueeze(1), value=curvature.decay)
    if curvature.prior and anchor is not None:
        pulled = pulled.add_(span.read(table - anchor), alpha=curvature.prior)
    gradient = residual + span.gather(pulled, len(residual))

    unit = torch.eye(table.shape[1], device=table.device)
    hessian = _positive(span.read(right.T)) + curvature.decay * span.read(span.read(unit).T)
    scales, axes = torch.linalg.eigh(hessian.double())
    # directions in which no reader differs: nothing is known of them, so they do not move
    scales = scales.where(scales > _SMALLEST * scales[-1], torch.inf)
    solved = gradient.double() @ axes
    if span.rows is not None:
        normal = span.normal(len(residual))
        normal.diagonal().add_(_RIDGE * float(normal.diagonal().mean()))
        solved = torch.cholesky_solve(solved, torch.linalg.cholesky(normal))
    solved /= (curvature.weight + curvature.unobserved) * scales + curvature.prior
    step: Tensor = solved @ axes.T
    return step.to(residual.dtype)


_RIDGE = 1e-3
"""Added to normal equations, as a multiple of their mean diagonal: where items share rows, some
sums of rows are not determined, and others by few items."""
_SMALLEST = 1e-6
"""Curvature, against the largest, that rounding alone may leave."""


def _positive(moment: Tensor) -> Tensor:
    """Return a symmetric matrix without its negative part, which rounding and noise bring in."""
    scales, axes = torch.linalg.eigh((moment + moment.T).double() / 2)
    found: Tensor = (axes * scales.clamp(min=0)) @ axes.T
    return found.to(moment.dtype)
