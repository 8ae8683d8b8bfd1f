"""The fused backend: one gradient of one payload over the whole cohort, no per-client copies.

If every client takes one SGD step on the payload and nothing needs its own update, the mean update
is -lr times the gradient of the weighted mean loss.  All clients score with the same item vectors
V, or what the backbone encodes them to, so the gradient is gathered there (and in V^T V, where the
loss sums over all items) and pulled back through the adapter once.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from fedpeft.simulation.cohort import Cohort
from fedpeft.simulation.problem import LocalProblem, select, store, weights
from fedpeft.simulation.update import Update
from fedpeft.tensors import Tensors


def run_shared(problem: LocalProblem, local: Tensors, cohort: Cohort) -> Update:
    """Run a round; `local` is updated in place.  The result equals `run_loop`'s."""
    item = problem.backbone.item
    item_tensors = dict(item.named_parameters())
    shared: Tensors = {name: p.detach() for name, p in problem.backbone.shared().items()}
    over_catalogue = bool(problem.loss.unobserved_weight)
    rows, position = cohort.touched(item.num_embeddings, over_catalogue, item.device)

    encoder = {name: t.clone().requires_grad_() for name, t in shared.items()}
    table = problem.encode(encoder, item.embed(item_tensors, rows), stacked=False)
    gram = table.T @ table if over_catalogue else None
    frozen_table, frozen_gram = table.detach(), None if gram is None else gram.detach()

    # gradients of the loss with respect to what all clients have in common
    table_grad = torch.zeros_like(frozen_table)
    gram_grad = None if frozen_gram is None else torch.zeros_like(frozen_gram)
    shared_grad = {name: torch.zeros_like(t) for name, t in shared.items()}
    total_weight = float(weights(problem.loss, torch.from_numpy(cohort.lengths)).sum()) or 1.0
    mean_loss = torch.zeros((), device=item.device)

    for bucket in cohort.buckets(problem.backbone.activations, item.device):
        index = bucket.items if position is None else position[bucket.items]
        vectors = F.embedding(index, frozen_table)
        own = select(local, bucket.users)
        own = problem.fit_local(own, shared, vectors, bucket.weight, frozen_gram)
        store(local, bucket.users, own)

        vectors.requires_grad_()
        moving: Tensors = {}
        if problem.training.joint:
            moving = {n: own[n].clone().requires_grad_() for n in problem.backbone.local}
            own = own | moving
        gram_leaf = None if frozen_gram is None else frozen_gram.clone().requires_grad_()
        shared_leaves = {name: t.clone().requires_grad_() for name, t in shared.items()}
        context = problem.context(
            own, shared_leaves, vectors[:, :, 0], bucket.weight, stacked=False
        )
        scores = problem.scores(own, shared_leaves, vectors, context, stacked=False)
        scores = problem.leave_out(scores, context)
        squares = problem.squares(own, gram_leaf, context)
        losses = problem.losses(own, scores, bucket.weight, squares)
        share = weights(problem.loss, bucket.lengths) / total_weight
        # a client without samples moves nothing but its own parameters, towards zero
        scale = torch.where(share > 0, share, 1.0)
        (losses * scale).sum().backward()
        store(local, bucket.users, problem.step_local(moving, scale))
        assert vectors.grad is not None
        table_grad.index_add_(0, index.flatten(), vectors.grad.flatten(0, -2))
        if gram_grad is not None and gram_leaf is not None and gram_leaf.grad is not None:
            gram_grad += gram_leaf.grad
        for name, leaf in shared_leaves.items():
            shared_grad[name] += leaf.grad if leaf.grad is not None else 0
        mean_loss += (losses * share).detach().sum()

    outputs, grads = [table], [table_grad]
    if gram is not None and gram_grad is not None:
        outputs, grads = [table, gram], [table_grad, gram_grad]
    behind = [*item_tensors.values(), *encoder.values()]
    found = torch.autograd.grad(outputs, behind, grads, allow_unused=True, materialize_grads=True)
    item_grad, encoder_grad = found[: len(item_tensors)], found[len(item_tensors) :]
    for total, part in zip(shared_grad.values(), encoder_grad, strict=True):
        total += part
    lr = problem.training.payload_optimizer.lr
    change = {
        f"item.{name}": grad.mul_(-lr) for name, grad in zip(item_tensors, item_grad, strict=True)
    }
    change |= {name: grad.mul_(-lr) for name, grad in shared_grad.items()}
    return Update(change, float(mean_loss))
