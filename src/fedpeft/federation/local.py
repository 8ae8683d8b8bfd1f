"""What one client computes, mapped over many: scores, loss, and the private phase.

All functions work on a stack of clients.  Each is the one-client module mapped by
`torch.func.vmap`, so a backbone or loss is written once; the loop of `fedpeft.federation.loop` is
the same mathematics client by client, and the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedpeft.backbones import Backbone
from fedpeft.errors import ConfigError, RunError
from fedpeft.federation.config import TrainingConfig
from fedpeft.losses import Loss

Tensors = dict[str, Tensor]


class _Score(nn.Module):
    """Gives `Backbone.score` the form `functional_call` needs."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, vectors: Tensor) -> Tensor:
        return self.backbone.score(vectors)


class _Dot(torch.autograd.Function):
    """Scores u . v, float (C, N), of item vectors, float (C, N, k), for users, float (C, k).

    With the user as a row, `bmm` takes a fast path forward and backward; ``vectors @ user`` takes
    five times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, user: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, user)
        return torch.bmm(user.unsqueeze(1), vectors.transpose(1, 2)).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        vectors, user = ctx.saved_tensors
        (grad,) = grads
        for_vectors, for_user = ctx.needs_input_grad
        return (
            grad.unsqueeze(-1) * user.unsqueeze(1) if for_vectors else None,
            torch.bmm(grad.unsqueeze(1), vectors).squeeze(1) if for_user else None,
        )


class LocalProblem:
    """One client's training problem, evaluated for a stack of C clients at once.

    Parameters
    ----------
    backbone
        The one-client module; its own parameter values are not used.
    loss
        The one-client loss.
    training
        Settings of the run.

    Raises
    ------
    ConfigError
        If the loss or an exact solve needs a linear score and the backbone has none.
    """

    def __init__(self, backbone: Backbone, loss: Loss, training: TrainingConfig) -> None:
        name = type(backbone).__name__
        if loss.catalogue_weight and backbone.readout is None:
            raise ConfigError(
                f"the loss sums over all items, which needs a score linear in the item vector; "
                f"{name} has none: choose loss.kind bpr or bce"
            )
        if training.private == "solve" and not loss.least_squares:
            raise ConfigError(
                "training.private = 'solve' needs loss.kind = 'ials'; "
                "use training.private = 'gradient' with other losses"
            )
        self.backbone = backbone
        self.loss = loss
        self.training = training
        self._score = _Score(backbone)
        self._map_loss = vmap(loss)

    def scores(
        self, private: Tensors, shared: Tensors, vectors: Tensor, *, stacked: bool
    ) -> Tensor:
        """Return scores of each client's item vectors.

        Parameters
        ----------
        private
            name -> float (C, ...).
        shared
            name -> float (C, ...) if `stacked`, else one (...) for all clients.
        vectors
            float (C, ..., k).

        Returns
        -------
        Tensor
            float (C, ...).
        """
        if self.backbone.readout is not None:
            user = private[self._readout]
            dots: Tensor = _Dot.apply(vectors.flatten(1, -2), user)  # type: ignore[no-untyped-call]
            return dots.view(vectors.shape[:-1])

        def one(own: Tensors, common: Tensors, rows: Tensor) -> Tensor:
            tensors = {f"backbone.{name}": t for name, t in (own | common).items()}
            scored: Tensor = functional_call(self._score, tensors, (rows,))
            return scored

        mapped: Tensor = vmap(one, in_dims=(0, 0 if stacked else None, 0))(private, shared, vectors)
        return mapped

    def catalogue_scores(self, private: Tensors, shared: Tensors, vectors: Tensor) -> Tensor:
        """Return each client's scores of all items, float (C, n), from vectors (n, k)."""

        def one(own: Tensors) -> Tensor:
            tensors = {f"backbone.{name}": t for name, t in (own | shared).items()}
            scored: Tensor = functional_call(self._score, tensors, (vectors,))
            return scored

        mapped: Tensor = vmap(one)(private)
        return mapped

    def losses(
        self, private: Tensors, scores: Tensor, weight: Tensor, squares: Tensor | None
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
            total = total + self.loss.catalogue_weight / 2 * squares
        if self.training.private_decay:
            penalty = sum(p.square().unsqueeze(-1).flatten(1).sum(-1) for p in private.values())
            total = total + self.training.private_decay / 2 * penalty
        return total

    def squares(self, private: Tensors, gram: Tensor | None) -> Tensor | None:
        """Return the sum over all items of squared scores, float (C,), from V^T V, float (k, k)."""
        if gram is None:
            return None
        user = private[self._readout]
        return (user @ gram * user).sum(-1)

    def fit_private(
        self,
        private: Tensors,
        shared: Tensors,
        vectors: Tensor,
        weight: Tensor,
        gram: Tensor | None,
    ) -> Tensors:
        """Return the private parameters fitted to the payload as received, the same for all.

        Parameters
        ----------
        private, shared
            As for `scores`, not stacked.
        vectors
            float (C, L, 1 + m, k): vectors of train items and of the negatives drawn for each.
        weight
            float (C, L): importance of the train items, 0 for padding.
        gram
            float (k, k): V^T V over all items, where the loss needs it.
        """
        if self.training.private == "solve":
            assert gram is not None  # guaranteed by the constructor's checks
            return private | {self._readout: self._solve(vectors[:, :, 0], weight, gram)}
        if self.training.private_steps == 0:
            return private
        with torch.inference_mode(False):  # whoever scores may have switched gradients off
            vectors, weight = _recordable(vectors), _recordable(weight)
            leaves = {name: p.clone().requires_grad_() for name, p in private.items()}
            optimizer = self.training.private_optimizer.build(leaves.values())
            for _ in range(self.training.private_steps):
                optimizer.zero_grad()
                scores = self.scores(leaves, shared, vectors, stacked=False)
                losses = self.losses(leaves, scores, weight, self.squares(leaves, gram))
                losses.sum().backward(inputs=list(leaves.values()))
                optimizer.step()
        return {name: leaf.detach() for name, leaf in leaves.items()}

    def _solve(self, vectors: Tensor, weight: Tensor, gram: Tensor) -> Tensor:
        """Solve (sum w v v^T + alpha0 V^T V + decay I) u = sum w v; Hu et al. 2008, eq. 4."""
        weighted = vectors * weight.unsqueeze(-1)
        identity = torch.eye(gram.shape[-1], device=gram.device)
        ridge = self.loss.catalogue_weight * gram + self.training.private_decay * identity
        system = ridge + weighted.transpose(1, 2) @ vectors
        factor, failed = torch.linalg.cholesky_ex(system)
        if failed.any():
            if system.isfinite().all():
                raise RunError(
                    "a client's least-squares problem has no unique solution in float32; raise "
                    f"training.private_decay, now {self.training.private_decay:g}"
                )
            return torch.full_like(weighted[:, 0], torch.nan)  # diverged: the loss will tell
        return torch.cholesky_solve(weighted.sum(1).unsqueeze(-1), factor).squeeze(-1)

    @property
    def fits_private(self) -> bool:
        """Whether private parameters are fitted before the payload moves."""
        return self.training.private == "solve" or self.training.private_steps > 0

    @property
    def _readout(self) -> str:
        name = self.backbone.readout
        assert name is not None  # guaranteed by the constructor's checks
        return name


def _recordable(tensor: Tensor) -> Tensor:
    """Return a tensor that autograd may save: a copy where `tensor` was made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def weights(loss: Loss, lengths: Tensor) -> Tensor:
    """Return the weight of clients with `lengths` train items in the average, float32."""
    counts = lengths.float()
    return counts if loss.weighting == "samples" else torch.ones_like(counts)


def select(private: Mapping[str, Tensor], users: Tensor) -> Tensors:
    """Return the rows of `users` from stacked private parameters."""
    return {name: tensor[users] for name, tensor in private.items()}


def store(private: Mapping[str, Tensor], users: Tensor, fitted: Mapping[str, Tensor]) -> None:
    """Write the rows of `users` back, in place."""
    for name, tensor in fitted.items():
        private[name][users] = tensor
