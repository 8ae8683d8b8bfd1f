"""The fused backend: one gradient of one payload over the whole cohort, no per-client copies.

If every client takes one SGD step on the payload and nothing needs its own change, the sum of the
weighted changes is -lr times the gradient of the weighted sum of the losses.  All clients score
with the same item vectors V, or what the backbone encodes them to.  So the gradient is gathered
there (and in V^T V, where the loss sums over all items) and pulled back through the adapter once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fedpeft.protocol.aggregate import Partial, finite
from fedpeft.protocol.statistics import MOMENT, WEIGHTS
from fedpeft.simulation.bucket import Bucket
from fedpeft.simulation.problem import select, store
from fedpeft.simulation.work import Work
from fedpeft.tensors import Tensors


def run_fused(work: Work) -> Partial:
    """Run a round; the population is updated in place.  The result equals `run_sequential`'s."""
    problem, cohort = work.problem, work.cohort
    item = problem.backbone.item
    item_tensors = dict(item.named_parameters())
    shared: Tensors = {name: p.detach() for name, p in problem.backbone.shared().items()}
    over_all = bool(problem.loss.unobserved_weight)
    rows, position = cohort.touched(item.num_embeddings, over_all, item.device)

    encoder = {name: t.clone().requires_grad_() for name, t in shared.items()}
    table = problem.precompute(encoder, item.embed(item_tensors, rows), stacked=False)
    gram = table.T @ table if over_all else None
    splits = problem.task.splits  # then the server finds what the gram does
    common = _Common(table.detach(), None if gram is None else gram.detach(), shared, position)
    sums = _Gradients(
        torch.zeros_like(common.table),
        None if common.gram is None else torch.zeros_like(common.gram),
        {name: torch.zeros_like(t) for name, t in shared.items()},
        torch.zeros((), device=item.device),
        torch.zeros(item.num_embeddings, device=item.device),
    )
    weight, clients = 0.0, 0
    for bucket in cohort.buckets(problem.backbone.activations, item.device):
        added = _add(work, common, sums, bucket)
        weight += float(problem.task.weights(added.lengths).sum())
        clients += len(added)
    work.count_uploads()

    outputs, grads = [table], [sums.table]
    if gram is not None and sums.gram is not None and not splits:
        outputs, grads = [table, gram], [sums.table, sums.gram]
    behind = [*item_tensors.values(), *encoder.values()]
    found = torch.autograd.grad(outputs, behind, grads, allow_unused=True, materialize_grads=True)
    item_grad, encoder_grad = found[: len(item_tensors)], found[len(item_tensors) :]
    for total, part_grad in zip(sums.shared.values(), encoder_grad, strict=True):
        total += part_grad
    lr = problem.training.payload_optimizer.lr
    change = {
        f"item.{name}": grad.mul_(-lr) for name, grad in zip(item_tensors, item_grad, strict=True)
    }
    change |= {name: grad.mul_(-lr) for name, grad in sums.shared.items()}
    if splits and sums.gram is not None:
        change[MOMENT] = problem.task.moment_form(item).of_sum(sums.gram)
    if problem.task.tells_histories:
        change[WEIGHTS] = sums.weights
    loss = float(sums.loss)
    if not (finite(change.values()) and math.isfinite(loss)):
        # finite losses whose gradients are not: whose they are cannot be told from the sum
        return Partial(work.empty().sum, 0.0, 0, len(cohort), 0.0)
    return Partial(change, weight, clients, len(cohort) - clients, loss)


@dataclass(frozen=True, eq=False)
class _Common:
    """What all clients of a round have in common.

    Attributes
    ----------
    table
        float (r, e): precomputed item vectors.
    gram
        float (k, k): V^T V, where the loss sums over all items.
    position
        int64 (n,): where an item's row stands in `table`; None: at its id.
    """

    table: Tensor
    gram: Tensor | None
    shared: Tensors
    position: Tensor | None


@dataclass(frozen=True, eq=False)
class _Gradients:
    """Gradients of the weighted sum of losses with respect to what is common, added in place.

    Where clients split their statistics, `gram` is the sum of their readers' second moments.
    `weights`, float (n,), is what each item weighs in the losses, where clients tell it.
    """

    table: Tensor
    gram: Tensor | None
    shared: Tensors
    loss: Tensor
    weights: Tensor


def _add(work: Work, common: _Common, sums: _Gradients, bucket: Bucket) -> Bucket:
    """Add the gradients of some clients; return those whose loss is finite, the others are out."""
    problem = work.problem
    index = bucket.items if common.position is None else common.position[bucket.items]
    vectors = F.embedding(index, common.table)
    own = select(work.population.local, bucket.rows)
    own = problem.fit_local(own, common.shared, vectors, bucket.weight, common.gram)
    fitted = own

    vectors.requires_grad_()
    moving: Tensors = {}
    if problem.training.joint:
        moving = {n: own[n].clone().requires_grad_() for n in problem.backbone.local}
        own = own | moving
    splits, gram_leaf = problem.task.splits, common.gram
    if gram_leaf is not None and not splits:
        gram_leaf = gram_leaf.clone().requires_grad_()
    shared_leaves = {name: t.clone().requires_grad_() for name, t in common.shared.items()}
    context = problem.context(own, shared_leaves, vectors[:, :, 0], bucket.weight, stacked=False)
    scores = problem.scores(own, shared_leaves, vectors, context, stacked=False)
    scores = problem.leave_out(scores, context)
    squares = problem.squares(own, gram_leaf, context)
    losses = problem.losses(own, scores, bucket.weight, squares)
    if not math.isfinite(float(losses.detach().sum())):
        fine = losses.detach().isfinite()
        if not bool(fine.all()):  # else the sum alone ran over
            return _add(work, common, sums, bucket[fine]) if bool(fine.any()) else bucket[fine]

    weights = problem.task.weights(bucket.lengths)
    # a client without samples moves nothing but its own parameters, towards zero
    scale = torch.where(weights > 0, weights, 1.0)
    total = (losses * scale).sum()
    if problem.task.own_items_decay:
        total = total + problem.own_items_penalty(vectors[:, :, 0], bucket.weight)
    total.backward()
    store(work.population.local, bucket.rows, fitted | problem.step_local(moving, scale))
    assert vectors.grad is not None
    sums.table.index_add_(0, index.flatten(), vectors.grad.flatten(0, -2))
    if sums.gram is not None and splits:
        readers = problem.reader(own, context).detach()
        sums.gram.add_(readers.T @ readers)
    elif sums.gram is not None and gram_leaf is not None and gram_leaf.grad is not None:
        sums.gram.add_(gram_leaf.grad)
    for name, leaf in shared_leaves.items():
        sums.shared[name] += leaf.grad if leaf.grad is not None else 0
    if problem.task.tells_histories:
        sums.weights.index_add_(0, bucket.items[:, :, 0].flatten(), bucket.weight.flatten())
    sums.loss.add_((losses * weights).detach().sum())
    return bucket
