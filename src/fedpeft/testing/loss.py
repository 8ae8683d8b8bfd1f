"""What every loss must do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from fedpeft.config import parse
from fedpeft.losses import Loss, losses
from fedpeft.testing.adapter import EPS
from fedpeft.testing.backends import assert_backends_agree
from fedpeft.testing.toy import GRADIENT, Toy, quality

Scores = tuple[Tensor, Tensor, Tensor]


class LossContract:
    """Subclass it, name a registered loss, and pytest checks it.

    Attributes
    ----------
    kind
        The registered name.
    config
        Settings that differ from the loss's defaults.
    ndcg_floor
        NDCG@10 to reach on `block_split` with FedMF and the full table after 60 rounds; chance is
        .15, a perfect model has 1.  Leave a margin of .1: rounding differs between processors.
    """

    kind: ClassVar[str]
    config: ClassVar[Mapping[str, Any]] = {}
    ndcg_floor: ClassVar[float]

    def make(self) -> Loss:
        """Return the loss."""
        part = losses.get(self.kind)
        return part.build(parse(part.config, self.config, "loss"))

    def scores(self, length: int, seed: int = 0) -> Scores:
        """Return positive and negative scores and weights of 1, float64."""
        rng = torch.Generator().manual_seed(seed)
        positive = torch.randn(length, generator=rng, dtype=torch.float64)
        negative = torch.randn(length, self.make().negatives, generator=rng, dtype=torch.float64)
        return positive, negative, torch.ones(length, dtype=torch.float64)

    def test_declares_itself(self) -> None:
        loss = self.make()
        assert loss.weighting in ("samples", "uniform")
        assert loss.negatives >= 0
        assert loss.unobserved_weight >= 0
        if loss.least_squares:
            assert loss.unobserved_weight > 0
            assert loss.negatives == 0

    @pytest.mark.parametrize("length", [1, 5])
    def test_gradient_is_right(self, length: int) -> None:
        loss = self.make()
        positive, negative, weight = self.scores(length)
        assert loss(positive, negative, weight).shape == ()
        assert torch.autograd.gradcheck(
            lambda p, q: loss(p, q, weight), (positive.requires_grad_(), negative.requires_grad_())
        )

    def test_raising_a_positive_and_lowering_a_negative_helps(self) -> None:
        positive, negative, weight = self.scores(5)
        positive, negative = torch.zeros_like(positive), torch.zeros_like(negative)
        inputs = (positive.requires_grad_(), negative.requires_grad_())
        grads = torch.autograd.grad(self.make()(*inputs, weight), inputs, allow_unused=True)
        assert grads[0] is not None
        assert (grads[0] < 0).all()
        assert grads[1] is None or (grads[1] > 0).all()

    @pytest.mark.parametrize("filler", [0.0, 7.0, -1e4, 1e4])
    def test_padding_does_not_count(self, filler: float) -> None:
        loss = self.make()
        positive, negative, weight = self.scores(4)
        longer = [torch.cat([part, torch.full_like(part[:3], filler)]) for part in self.scores(4)]
        longer[2] = torch.cat([weight, torch.zeros(3, dtype=torch.float64)])
        leaf = longer[0].requires_grad_()
        padded = loss(leaf, longer[1], longer[2])
        torch.testing.assert_close(padded, loss(positive, negative, weight))
        (grad,) = torch.autograd.grad(padded, leaf)
        assert not grad[4:].any()

    def test_weight_two_is_as_if_seen_twice(self) -> None:
        loss = self.make()
        positive, negative, weight = self.scores(4)
        # the same for all, since those of one positive may serve the others too
        negative = negative[:1].expand_as(negative)
        times = torch.tensor([1, 2, 3, 1])
        repeated = [part.repeat_interleave(times, 0) for part in (positive, negative, weight)]
        torch.testing.assert_close(loss(positive, negative, times.double()), loss(*repeated))

    def test_nobody_is_nothing(self) -> None:
        positive, negative, weight = self.scores(3)
        leaf = positive.requires_grad_()
        nothing = self.make()(leaf, negative, torch.zeros_like(weight))
        assert nothing.item() == 0
        (grad,) = torch.autograd.grad(nothing, leaf)
        assert not grad.any()
        empty = self.make()(positive[:0], negative[:0], weight[:0])
        assert empty.item() == 0

    def test_order_does_not_matter(self) -> None:
        loss = self.make()
        parts = self.scores(6)
        turned = tuple(part.flip(0) for part in parts)
        torch.testing.assert_close(loss(*turned), loss(*parts))

    def test_weighting_says_whether_it_is_a_mean_or_a_sum(self) -> None:
        loss = self.make()
        positive, negative, weight = self.scores(4)
        twice = loss(*(torch.cat([part, part]) for part in (positive, negative, weight)))
        factor = 1 if loss.weighting == "samples" else 2
        torch.testing.assert_close(twice, factor * loss(positive, negative, weight))

    @pytest.mark.parametrize("size", [1e3, 1e4])
    def test_large_scores_stay_finite(self, size: float) -> None:
        positive, negative, weight = (part.float() for part in self.scores(5))
        leaf = (size * positive).requires_grad_()
        value = self.make()(leaf, -size * negative, weight)
        (grad,) = torch.autograd.grad(value, leaf)
        assert value.isfinite()
        assert grad.isfinite().all()

    def test_mapped_over_clients_is_the_same(self) -> None:
        loss = self.make()
        clients = [self.scores(4, seed) for seed in range(3)]
        stacked = (torch.stack(parts) for parts in zip(*clients, strict=True))
        alone = torch.stack([loss(*client) for client in clients])
        torch.testing.assert_close(vmap(loss)(*stacked), alone)

    def test_backends_agree(self) -> None:
        assert_backends_agree(self._toy().with_training(local_optimizer=EPS, server_optimizer=EPS))

    def test_learns_what_there_is_to_learn(self) -> None:
        assert quality(self._toy(), 0) < 0.3, "an untrained model must know nothing"
        assert quality(self._toy(), 60) >= self.ndcg_floor

    def _toy(self) -> Toy:
        training = {
            "rounds": 60,
            "cohort": 0.5,
            "warmup_rounds": 0,
            "refresh_every": 0,
            "server_optimizer": {"lr": 0.03},
            **({} if self.make().least_squares else GRADIENT),
        }
        return Toy(loss=(self.kind, self.config), training=training)
