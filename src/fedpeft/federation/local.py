"""What one client computes, mapped over many: scores, loss, and the private phase.

All functions work on a stack of clients.  Each is the one-client module mapped by
`torch.func.vmap`, so a backbone or loss is written once; the loop of `fedpeft.federation.loop` is
the same mathematics client by client, and the tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from fedpeft.backbones import Backbone, HistoryBackbone
from fedpeft.errors import ConfigError, RunError
from fedpeft.federation.config import TrainingConfig
from fedpeft.losses import Loss

Tensors = dict[str, Tensor]
CATALOGUE_BYTES = 1 << 24
"""Bytes of activations at once where clients score the whole catalogue."""


class _Encode(nn.Module):
    """Gives `Backbone.encode` the form `functional_call` needs."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, vectors: Tensor) -> Tensor:
        return self.backbone.encode(vectors)


class _Score(nn.Module):
    """Gives `Backbone.score_encoded` the form `functional_call` needs."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, encoded: Tensor) -> Tensor:
        return self.backbone.score_encoded(encoded)


class Contexts(NamedTuple):
    """What the histories of C clients add to their scores; see `HistoryBackbone`.

    Attributes
    ----------
    whole
        float (C, k): added to the read-out vectors.
    change
        float (C, L): what leaving a train item out of its own context changes in its score.
    """

    whole: Tensor
    change: Tensor


class _ContextOf(nn.Module):
    """Gives `HistoryBackbone.context` the form `functional_call` needs."""

    def __init__(self, backbone: HistoryBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, vectors: Tensor, weight: Tensor) -> Contexts:
        whole, others = self.backbone.context(vectors, weight)
        return Contexts(whole, ((others - whole) * vectors).sum(-1))


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
                f"{name} has none: choose loss.kind softmax, bpr or bce"
            )
        if training.private == "solve" and not loss.least_squares:
            raise ConfigError(
                "training.private = 'solve' needs loss.kind = 'ials'; "
                "use training.private = 'gradient' with other losses"
            )
        self.backbone = backbone
        self.loss = loss
        self.training = training
        self._encode, self._score = _Encode(backbone), _Score(backbone)
        self._context = _ContextOf(backbone) if isinstance(backbone, HistoryBackbone) else None
        self._map_loss = vmap(loss)

    def context(
        self, private: Tensors, shared: Tensors, positives: Tensor, weight: Tensor, *, stacked: bool
    ) -> Contexts | None:
        """Return what each client's history adds; None where the backbone looks at none.

        Parameters
        ----------
        private, shared
            As for `scores`.
        positives
            float (C, L, k): vectors of the train items.
        weight
            float (C, L): importance of the train items, 0 for padding.
        """
        if self._context is None:
            return None
        module = self._context

        def one(own: Tensors, common: Tensors, rows: Tensor, counts: Tensor) -> Contexts:
            tensors = {f"backbone.{name}": t for name, t in (own | common).items()}
            found: Contexts = functional_call(module, tensors, (rows, counts))
            return found

        dims = (0, 0 if stacked else None, 0, 0)
        mapped: Contexts = vmap(one, in_dims=dims)(private, shared, positives, weight)
        return mapped

    def encode(self, shared: Tensors, vectors: Tensor, *, stacked: bool) -> Tensor:
        """Return what scoring needs of item vectors.

        Parameters
        ----------
        shared
            As for `scores`.
        vectors
            float (C, N, k) if `stacked`, else (n, k) for all clients.

        Returns
        -------
        Tensor
            float (C, N, e) or (n, e); `vectors` itself where the backbone encodes nothing.
        """
        if type(self.backbone).encode is Backbone.encode:
            return vectors

        def one(common: Tensors, rows: Tensor) -> Tensor:
            tensors = {f"backbone.{name}": t for name, t in common.items()}
            encoded: Tensor = functional_call(self._encode, tensors, (rows,))
            return encoded

        return vmap(one)(shared, vectors) if stacked else one(shared, vectors)

    def scores(
        self,
        private: Tensors,
        shared: Tensors,
        encoded: Tensor,
        context: Contexts | None,
        *,
        stacked: bool,
    ) -> Tensor:
        """Return scores of each client's encoded items, all as if outside its history.

        Parameters
        ----------
        private
            name -> float (C, ...).
        shared
            name -> float (C, ...) if `stacked`, else one (...) for all clients.
        encoded
            float (C, ..., e): item vectors after `encode`.
        context
            What `context` returned.

        Returns
        -------
        Tensor
            float (C, ...).
        """
        if self.backbone.readout is not None:
            reader = self._reader(private, context)
            dots: Tensor = _Dot.apply(encoded.flatten(1, -2), reader)  # type: ignore[no-untyped-call]
            return dots.view(encoded.shape[:-1])

        def one(own: Tensors, common: Tensors, rows: Tensor) -> Tensor:
            tensors = {f"backbone.{name}": t for name, t in (own | common).items()}
            scored: Tensor = functional_call(self._score, tensors, (rows,))
            return scored

        mapped: Tensor = vmap(one, in_dims=(0, 0 if stacked else None, 0))(private, shared, encoded)
        return mapped

    def leave_out(self, scores: Tensor, context: Contexts | None) -> Tensor:
        """Return `scores` with each train item scored in the context of the others.

        Parameters
        ----------
        scores
            float (C, L, 1 + m): train items, each with its negatives, as `scores` gave them.
        """
        if context is None:
            return scores
        return scores + F.pad(context.change.unsqueeze(-1), (0, scores.shape[-1] - 1))

    def catalogue_scores(
        self, private: Tensors, shared: Tensors, encoded: Tensor, whole: Tensor | None
    ) -> Tensor:
        """Return each client's scores of all items, float (C, n), from encoded ones (n, e).

        `whole` is `Contexts.whole`, float (C, k), where the backbone sees histories.
        """
        if whole is not None:
            return (private[self._readout] + whole) @ encoded.T

        def one(own: Tensors) -> Tensor:
            tensors = {f"backbone.{name}": t for name, t in (own | shared).items()}
            scored: Tensor = functional_call(self._score, tensors, (encoded,))
            return scored

        at_once = max(1, CATALOGUE_BYTES // (4 * len(encoded) * self.backbone.activations))
        mapped: Tensor = vmap(one, chunk_size=at_once)(private)
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
            fitted = [private[name] for name in self.backbone.private]
            penalty = sum(p.square().unsqueeze(-1).flatten(1).sum(-1) for p in fitted)
            total = total + self.training.private_decay / 2 * penalty
        return total

    def squares(
        self, private: Tensors, gram: Tensor | None, context: Contexts | None
    ) -> Tensor | None:
        """Return the sum over all items of squared scores, float (C,), from V^T V, float (k, k)."""
        if gram is None:
            return None
        reader = self._reader(private, context)
        return (reader @ gram * reader).sum(-1)

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
            float (C, L, 1 + m, e): train items and the negatives drawn for each, after `encode`.
        weight
            float (C, L): importance of the train items, 0 for padding.
        gram
            float (k, k): V^T V over all items, where the loss needs it.
        """
        if self.training.private == "solve":
            assert gram is not None  # guaranteed by the constructor's checks
            positives = vectors[:, :, 0]
            context = self.context(private, shared, positives, weight, stacked=False)
            return private | {self._readout: self._solve(positives, weight, gram, context)}
        if self.training.private_steps == 0:
            return private
        with torch.inference_mode(False):  # whoever scores may have switched gradients off
            vectors, weight = _recordable(vectors), _recordable(weight)
            kept = {name: _recordable(private[name]) for name in self.backbone.kept}
            leaves = {n: private[n].clone().requires_grad_() for n in self.backbone.private}
            optimizer = self.training.private_optimizer.build(leaves.values())
            with torch.no_grad():  # not a function of what moves here
                context = self.context(private, shared, vectors[:, :, 0], weight, stacked=False)
            for _ in range(self.training.private_steps):
                optimizer.zero_grad()
                own = leaves | kept
                scores = self.scores(own, shared, vectors, context, stacked=False)
                scores = self.leave_out(scores, context)
                losses = self.losses(own, scores, weight, self.squares(own, gram, context))
                losses.sum().backward(inputs=list(leaves.values()))
                optimizer.step()
        return kept | {name: leaf.detach() for name, leaf in leaves.items()}

    def step_private(self, leaves: Tensors, scale: Tensor) -> Tensors:
        """Take one step on private parameters whose gradients are there.

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
            assert leaf.grad is not None  # private parameters enter the score
            leaf.grad /= scale.view(-1, *[1] * (leaf.dim() - 1))
        self.training.private_optimizer.build(leaves.values()).step()
        return {name: leaf.detach() for name, leaf in leaves.items()}

    def _solve(
        self, vectors: Tensor, weight: Tensor, gram: Tensor, context: Contexts | None
    ) -> Tensor:
        """Solve (sum w v v^T + alpha0 V^T V + decay I) u = sum w v; Hu et al. 2008, eq. 4.

        A context c scores without u already, and u fits what it leaves: on the right-hand side,
        w v is counted 1 - c.v times and alpha0 V^T V c comes off.
        """
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
        right = weighted.sum(1)
        if context is not None:
            explained = torch.bmm(vectors, context.whole.unsqueeze(-1)).squeeze(-1) + context.change
            right = right - torch.bmm(explained.unsqueeze(1), weighted).squeeze(1)
            right = right - self.loss.catalogue_weight * context.whole @ gram
        return torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)

    @property
    def sees_history(self) -> bool:
        """Whether a client's train history enters its scores."""
        return self._context is not None

    @property
    def fits_private(self) -> bool:
        """Whether private parameters are fitted before the payload moves."""
        return self.training.private == "solve" or self.training.private_steps > 0

    def _reader(self, private: Tensors, context: Contexts | None) -> Tensor:
        """Return the vectors that read item vectors out, float (C, k)."""
        user = private[self._readout]
        return user if context is None else user + context.whole

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
