"""One SGD step of many clients on a loss over all items, without their item tables.

All clients take the step from the payload they received, so they share its item vectors V, n x k.
A client with user vector u adds alpha / 2 ||V u||^2 to what its own items cost; in V its
gradient is alpha V u u^T.  The pull-back through an adapter, J^T, commutes with what maps columns:
for a tensor of `ItemEmbedding.columns` it is (J^T V) u times alpha u^T, of rank one, and J^T V is
the same for all clients.  No client needs more than the rows of its own items for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import vjp, vmap
from torch.nn import functional as F

from fedpeft.adapters import ItemEmbedding
from fedpeft.memory import at_once
from fedpeft.protocol.statistics import MOMENT, WEIGHTS, item_weights
from fedpeft.simulation.bucket import Bucket, stacked_rows
from fedpeft.simulation.cohort import Cohort
from fedpeft.simulation.problem import LocalProblem, select
from fedpeft.tensors import Tensors


def applies(problem: LocalProblem) -> bool:
    """Return whether a run's clients take just such a step."""
    training, backbone = problem.training, problem.backbone
    return (
        bool(problem.loss.unobserved_weight)
        and training.payload_steps == 1
        and training.payload_optimizer.kind == "sgd"
        and not training.joint
        and (problem.task.splits or bool(backbone.item.columns))
        and not backbone.shared()
    )


class AllItems:
    """All item vectors as clients received them.

    Parameters
    ----------
    item
        An item embedding that declares its `columns`.

    Attributes
    ----------
    gram
        float (k, k): V^T V.
    """

    def __init__(self, item: ItemEmbedding) -> None:
        self._item = item
        self._ids = torch.arange(item.num_embeddings, device=item.device)
        self._tensors = {name: p.detach() for name, p in item.named_parameters()}
        leaves = {name: self._tensors[name].clone().requires_grad_() for name in item.columns}
        table = item.embed(self._tensors | leaves, self._ids)
        self._table = table.detach()
        pulled = torch.autograd.grad(table, list(leaves.values()), self._table) if leaves else ()
        self._pulled = dict(zip(leaves, pulled, strict=True))
        self._others = {name: t for name, t in self._tensors.items() if name not in leaves}
        self.gram = self._table.T @ self._table

    def squares_gradient(self, readers: Tensor, scale: float) -> Tensors:
        """Return gradients of scale / 2 * (sum over items of squared scores).

        Parameters
        ----------
        readers
            float (C, k): each client's user vector, taken as constant.

        Returns
        -------
        dict
            name of the item embedding's tensor -> float (C, ...).
        """
        scaled = scale * readers
        outer = {}
        for name, pulled in self._pulled.items():
            left = _read(pulled, scaled)
            outer[name] = left * readers.view(len(readers), *[1] * (left.dim() - 2), -1)
        return outer | self._pull_scores(readers, scale) if self._others else outer

    def _pull_scores(self, readers: Tensor, scale: float) -> Tensors:
        """Return `squares_gradient` for tensors that are not made of columns.

        Scores are item vectors of one column, composed of columns that were read out before.
        """
        item = self._item
        index, base = item.lookups(self._ids), item.base_rows(self._ids)

        def one(read: Tensors, read_base: Tensor | None, grad: Tensor) -> Tensors:
            def scores(own: Tensors) -> Tensor:
                tensors = own | read
                rows = {  # an item's row in an item-indexed tensor is its own
                    n: tensors[n] if n in item.item_indexed else F.embedding(found, tensors[n])
                    for n, found in index.items()
                }
                whole = {name: tensor for name, tensor in tensors.items() if name not in rows}
                return item.compose(rows, whole, read_base)

            pulled: Tensors = vjp(scores, self._others)[1](grad)[0]
            return pulled

        read = {name: _read(self._tensors[name], readers) for name in self._pulled}
        read_base = None if base is None else _read(base, readers)
        mapped: Tensors = vmap(one, in_dims=(0, None if base is None else 0, 0))(
            read, read_base, scale * _read(self._table, readers)
        )
        return {name: tensor.contiguous() for name, tensor in mapped.items()}

    @property
    def values_per_client(self) -> int:
        """About how many values a client's gradient takes to compute."""
        return self._item.payload_values + (len(self._ids) if self._others else 0)


def _read(tensor: Tensor, readers: Tensor) -> Tensor:
    """Return what each of C clients reads out of a tensor (..., k), float (C, ..., 1)."""
    found: Tensor = torch.tensordot(readers, tensor, ([1], [-1]))
    return found.unsqueeze(-1)


@dataclass(frozen=True, eq=False)
class Stepped:
    """Some clients after their step: C of them.

    Attributes
    ----------
    losses
        float (C,): before the step.
    change
        name -> float (C, ...): how far each client's payload has moved.
    """

    clients: Bucket
    local: Tensors
    losses: Tensor
    change: Tensors
    rows: ClassVar[None] = None  # every row of item-indexed tensors moves
    places: ClassVar[None] = None


def stepped(problem: LocalProblem, local: Tensors, cohort: Cohort) -> Iterator[Stepped]:
    """Let the clients of a cohort take their step, some at a time; asks that `applies` holds."""
    item, width = problem.backbone.item, problem.backbone.activations
    catalogue = AllItems(item)
    for bucket in cohort.buckets(width, item.device):
        values = catalogue.values_per_client + bucket.items[0].numel() * width
        for part in bucket.within(at_once(values, item.device)):
            yield _step(problem, catalogue, select(local, part.rows), part)


def _step(problem: LocalProblem, catalogue: AllItems, own: Tensors, part: Bucket) -> Stepped:
    """Fit the local parameters, then take the step."""
    item, loss = problem.backbone.item, problem.loss
    tensors = {name: p.detach() for name, p in item.named_parameters()}
    clients, items = len(part), part.items.flatten(1)
    index = item.lookups(items)
    # the rows a client looks up, each its own leaf: (C, N, ...); and what it does not look up
    rows = {name: F.embedding(i, tensors[name]).requires_grad_() for name, i in index.items()}
    whole = {
        name: tensor.expand(clients, *tensor.shape).requires_grad_()
        for name, tensor in tensors.items()
        if name not in index
    }
    base = item.base_rows(items)
    compose = vmap(item.compose, in_dims=(0, 0, None if base is None else 0))
    vectors: Tensor = compose(rows, whole, base).view(*part.items.shape, -1)

    if problem.fits_local:
        own = problem.fit_local(own, {}, vectors.detach(), part.weight, catalogue.gram)
    context = problem.context(own, {}, vectors[:, :, 0], part.weight, stacked=False)
    scores = problem.scores(own, {}, vectors, context, stacked=False)
    squares = problem.squares(own, catalogue.gram, context)
    losses = problem.losses(own, problem.leave_out(scores, context), part.weight, squares)
    rate = -problem.training.payload_optimizer.lr
    leaves = [*rows.values(), *whole.values()]
    total_loss = losses.sum()
    if problem.task.own_items_decay:
        total_loss = total_loss + problem.own_items_penalty(vectors[:, :, 0], part.weight)
    moved = torch.autograd.grad(
        rate * total_loss, leaves, allow_unused=True, materialize_grads=True
    )
    reader = problem.reader(own, context).detach()
    if problem.task.splits:
        change = {n: t.new_zeros(clients, *t.shape) for n, t in tensors.items()}
    else:
        change = catalogue.squares_gradient(reader, rate * loss.unobserved_weight)
    for name, delta in zip((*rows, *whole), moved, strict=True):
        total = change[name]
        if name in rows:
            place = stacked_rows(index[name], total.shape[1]).flatten()
            shape = (-1, *total.shape[2:])
            total.view(shape).index_add_(0, place, delta.reshape(shape))
        else:
            total += delta
    change = {f"item.{name}": change[name] for name in tensors}
    if problem.task.splits:
        change[MOMENT] = problem.task.moment_form(item).of_readers(reader)
    if problem.task.tells_histories:
        change[WEIGHTS] = item_weights(part.items[:, :, 0], part.weight, item.num_embeddings)
    return Stepped(part, own, losses.detach(), change)
