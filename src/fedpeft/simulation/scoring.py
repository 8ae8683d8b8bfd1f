"""What one client scores, mapped over many.

All functions work on a stack of clients.  Each is the one-client module mapped by
`torch.func.vmap`, so a backbone is written once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from fedpeft.backbones import Backbone, HistoryBackbone
from fedpeft.memory import at_once, in_cache
from fedpeft.tensors import Tensors


class _Precompute(nn.Module):
    """Gives `Backbone.precompute` the form `functional_call` needs."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, vectors: Tensor) -> Tensor:
        return self.backbone.precompute(vectors)


class _Score(nn.Module):
    """Gives `Backbone.score_precomputed` the form `functional_call` needs."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, precomputed: Tensor) -> Tensor:
        return self.backbone.score_precomputed(precomputed)


class Contexts(NamedTuple):
    """What the histories of C clients add to their scores; see `HistoryBackbone`.

    Attributes
    ----------
    whole
        float (C, k): added to the user vectors.
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


class Scoring:
    """One client's scores, computed for a stack of C clients at once.

    Parameters
    ----------
    backbone
        The one-client module; its own parameter values are not used.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._precompute, self._score = _Precompute(backbone), _Score(backbone)
        self._context = _ContextOf(backbone) if isinstance(backbone, HistoryBackbone) else None

    def context(
        self, local: Tensors, shared: Tensors, positives: Tensor, weight: Tensor, *, stacked: bool
    ) -> Contexts | None:
        """Return what each client's history adds; None where the backbone looks at none.

        Parameters
        ----------
        local, shared
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
        mapped: Contexts = vmap(one, in_dims=dims)(local, shared, positives, weight)
        return mapped

    def precompute(self, shared: Tensors, vectors: Tensor, *, stacked: bool) -> Tensor:
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
        if type(self.backbone).precompute is Backbone.precompute:
            return vectors

        def one(common: Tensors, rows: Tensor) -> Tensor:
            tensors = {f"backbone.{name}": t for name, t in common.items()}
            precomputed: Tensor = functional_call(self._precompute, tensors, (rows,))
            return precomputed

        return vmap(one)(shared, vectors) if stacked else one(shared, vectors)

    def scores(
        self,
        local: Tensors,
        shared: Tensors,
        precomputed: Tensor,
        context: Contexts | None,
        *,
        stacked: bool,
    ) -> Tensor:
        """Return scores of each client's precomputed items, all as if outside its history.

        Parameters
        ----------
        local
            name -> float (C, ...).
        shared
            name -> float (C, ...) if `stacked`, else one (...) for all clients.
        precomputed
            float (C, ..., e): item vectors after `precompute`.
        context
            What `context` returned.

        Returns
        -------
        Tensor
            float (C, ...).
        """
        if self.backbone.user_vector is not None:
            reader = self.reader(local, context)
            dots: Tensor = _Dot.apply(precomputed.flatten(1, -2), reader)  # type: ignore[no-untyped-call]
            return dots.view(precomputed.shape[:-1])

        dims = (0, 0 if stacked else None, 0)
        mapped: Tensor = vmap(self._one, in_dims=dims)(local, shared, precomputed)
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
        self, local: Tensors, shared: Tensors, precomputed: Tensor, whole: Tensor | None
    ) -> Tensor:
        """Return each client's scores of all items, float (C, n), from precomputed ones (n, e).

        `whole` is `Contexts.whole`, float (C, k), where the backbone sees histories.
        """
        if self.backbone.user_vector is not None:
            user = local[self._user_vector]
            return (user if whole is None else user + whole) @ precomputed.T

        values, device = self.backbone.activations, precomputed.device
        clients = in_cache(len(precomputed) * values, device)
        if clients > 1:
            mapping = vmap(self._one, in_dims=(0, None, None), chunk_size=clients)
            mapped: Tensor = mapping(local, shared, precomputed)
            return mapped
        # a catalogue that fills the cache alone: mapping would cost more than it saves
        everyone = (dict(zip(local, own, strict=True)) for own in zip(*local.values(), strict=True))
        blocks = precomputed.split(at_once(values, device))
        return torch.stack(
            [torch.cat([self._one(own, shared, rows) for rows in blocks]) for own in everyone]
        )

    def _one(self, own: Tensors, shared: Tensors, precomputed: Tensor) -> Tensor:
        """Return one client's scores, float (...), of precomputed items, float (..., e)."""
        tensors = {f"backbone.{name}": t for name, t in (own | shared).items()}
        scored: Tensor = functional_call(self._score, tensors, (precomputed,))
        return scored

    @property
    def sees_history(self) -> bool:
        """Whether a client's train history enters its scores."""
        return self._context is not None

    def reader(self, local: Tensors, context: Contexts | None) -> Tensor:
        """Return the vectors whose product with an item vector is its score, float (C, k)."""
        user = local[self._user_vector]
        return user if context is None else user + context.whole

    @property
    def _user_vector(self) -> str:
        name = self.backbone.user_vector
        assert name is not None  # only asked where there is one
        return name
