"""What one client minimises, mapped over many: the loss, and the local phase.

`fedpeft.client.local` is the same mathematics for one client, and the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import vmap

from fedpeft.backbones import Backbone
from fedpeft.client.local import no_unique_solution
from fedpeft.simulation.scoring import Contexts, Scoring
from fedpeft.tensors import Tensors
from fedpeft.training.task import Task


class LocalProblem(Scoring):
    """One client's training problem, evaluated for a stack of C clients at once.

    Parameters
    ----------
    task
        What the run has agreed on.
    backbone
        The one-client module, holding the payload as clients received it; values of its local
        parameters are not used.
    """

    def __init__(self, task: Task, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.task = task
        self.loss = task.loss
        self.training = task.training
        self._map_loss = vmap(task.loss)
        self.begin(0)

    def begin(self, round_number: int) -> None:
        """Prepare for a round, whose number every client learns with the payload."""
        self.local_optimizer = self.training.local_optimizer_at(round_number)

    def losses(
        self, local: Tensors, scores: Tensor, weight: Tensor, squares: Tensor | None
    ) -> Tensor:
        """Return each client's loss, float (C,).

        Parameters
        ----------
        scores
            float (C, L, 1 + m): scores of train items and of the negatives drawn for each.
        weight
            float (C, L): importance of the train items, 0 for padding.
        squares
            float (C,): sum over all items of the squared score, where the loss needs it.
        """
        total: Tensor = self._map_loss(scores[..., 0], scores[..., 1:], weight)
        if squares is not None:
            total = total + self.loss.unobserved_weight / 2 * squares
        if self.training.local_decay or self.task.frequency_decay:
            fitted = [local[name] for name in self.backbone.local]
            penalty = sum(p.square().unsqueeze(-1).flatten(1).sum(-1) for p in fitted)
            total = total + self.task.local_decay(weight) / 2 * penalty
        return total

    def own_items_penalty(self, positives: Tensor, weight: Tensor) -> Tensor:
        """Return the sum over clients of their part of the items' frequency-scaled penalty.

        Parameters
        ----------
        positives
            float (C, L, k): vectors of the train items.
        """
        squares = (weight.unsqueeze(-1) * positives.square()).sum()
        return self.task.own_items_decay / 2 * squares

    def squares(
        self, local: Tensors, gram: Tensor | None, context: Contexts | None
    ) -> Tensor | None:
        """Return the sum over all items of squared scores, float (C,), from V^T V, float (k, k)."""
        if gram is None:
            return None
        reader = self.reader(local, context)
        return (reader @ gram * reader).sum(-1)

    def fit_local(
        self,
        local: Tensors,
        shared: Tensors,
        vectors: Tensor,
        weight: Tensor,
        gram: Tensor | None,
    ) -> Tensors:
        """Return the local parameters fitted to the payload as received, the same for all.

        Parameters
        ----------
        local, shared
            As for `scores`, not stacked.
        vectors
            float (C, L, 1 + m, e): train items and the negatives drawn for each, precomputed.
        weight
            float (C, L): importance of the train items, 0 for padding.
        gram
            float (k, k): V^T V over all items, where the loss needs it.
        """
        if self.training.local == "solve":
            assert gram is not None  # guaranteed by the constructor's checks
            positives = vectors[:, :, 0]
            context = self.context(local, shared, positives, weight, stacked=False)
            return local | {self._user_vector: self._solve(positives, weight, gram, context)}
        if self.training.local_steps == 0:
            return local
        with torch.inference_mode(False):  # whoever scores may have switched gradients off
            vectors, weight = _recordable(vectors), _recordable(weight)
            kept = {name: _recordable(local[name]) for name in self.backbone.kept}
            leaves = {n: local[n].clone().requires_grad_() for n in self.backbone.local}
            optimizer = self.local_optimizer.build(leaves.values())
            with torch.no_grad():  # not a function of what moves here
                context = self.context(local, shared, vectors[:, :, 0], weight, stacked=False)
            for _ in range(self.training.local_steps):
                optimizer.zero_grad()
                own = leaves | kept
                scores = self.scores(own, shared, vectors, context, stacked=False)
                scores = self.leave_out(scores, context)
                losses = self.losses(own, scores, weight, self.squares(own, gram, context))
                losses.sum().backward(inputs=list(leaves.values()))
                optimizer.step()
        return kept | {name: leaf.detach() for name, leaf in leaves.items()}

    def step_local(self, leaves: Tensors, scale: Tensor) -> Tensors:
        """Take one step on local parameters whose gradients are there.

        Parameters
        ----------
        leaves
            name -> float (C, ...).
        scale
            float (C,): what each client's loss was multiplied with before the gradients were taken.
        """
        if not leaves:
            return {}
        for leaf in leaves.values():
            assert leaf.grad is not None  # local parameters enter the score
            leaf.grad /= scale.view(-1, *[1] * (leaf.dim() - 1))
        self.local_optimizer.build(leaves.values()).step()
        return {name: leaf.detach() for name, leaf in leaves.items()}

    def _solve(
        self, vectors: Tensor, weight: Tensor, gram: Tensor, context: Contexts | None
    ) -> Tensor:
        """Solve (sum w v v^T + a0 V^T V + decay I) u = sum w v (Hu et al. 2008, eq. 4).

        A context c scores without u already, and u fits what it leaves: on the right-hand side,
        w v is counted 1 - c.v times and unobserved_weight V^T V c comes off.
        """
        weighted = vectors * weight.unsqueeze(-1)
        decay = self.task.local_decay(weight)
        common = self.loss.unobserved_weight * gram
        system = torch.baddbmm(common, weighted.transpose(1, 2), vectors)
        system.diagonal(dim1=1, dim2=2).add_(decay.unsqueeze(-1))
        factor, failed = torch.linalg.cholesky_ex(system)
        if failed.any():
            if system.isfinite().all():
                raise no_unique_solution(float(decay.min()))
            return torch.full_like(weighted[:, 0], torch.nan)  # diverged: the loss will tell
        right = weighted.sum(1)
        if context is not None:
            explained = torch.bmm(vectors, context.whole.unsqueeze(-1)).squeeze(-1) + context.change
            right = right - torch.bmm(explained.unsqueeze(1), weighted).squeeze(1)
            right = right - self.loss.unobserved_weight * context.whole @ gram
        return torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)

    @property
    def fits_local(self) -> bool:
        """Whether local parameters are fitted before the payload moves."""
        return self.training.local == "solve" or self.training.local_steps > 0


def _recordable(tensor: Tensor) -> Tensor:
    """Return a tensor that autograd may save: a copy where `tensor` was made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def select(local: Mapping[str, Tensor], rows: Tensor) -> Tensors:
    """Return some rows of stacked local parameters."""
    return {name: tensor[rows] for name, tensor in local.items()}


def store(local: Mapping[str, Tensor], rows: Tensor, fitted: Mapping[str, Tensor]) -> None:
    """Write rows back, in place; a client with a value that is not finite keeps its old ones."""
    if not fitted:
        return
    sums = [tensor.unsqueeze(-1).flatten(1).sum(1) for tensor in fitted.values()]
    sound = torch.stack(sums).sum(0).isfinite()
    for name, tensor in fitted.items():
        local[name][rows[sound]] = tensor[sound]
