"""FedNCF: score = MLP([user, item]) (the MLP of He et al. 2017, eq. 10, made federated)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fedpeft.adapters import ItemEmbedding
from fedpeft.backbones.base import Backbone, BackboneConfig, Width, backbones
from fedpeft.backbones.mlp import MLP
from fedpeft.streams import FirstDraws


class FedNCFConfig(BackboneConfig):
    """Settings of FedNCF."""

    hidden: tuple[Width, ...] = Field((128, 64), min_length=1)
    """Widths of the hidden layers above the concatenated user and item vector."""
    starts: ClassVar = frozenset({"init_std"})

    init_std: float = Field(0.1, ge=0)
    """Standard deviation of a new user's vector."""


class FedNCF(Backbone):
    """Neural collaborative filtering: the user vector is local, the MLP is shared and travels."""

    local = ("user",)
    # chosen on validation (fedpeft); as published (paper)
    presets: ClassVar = {
        "fedpeft": {
            "local_steps": 0,
            "joint": True,
            "local_optimizer": {"lr": 0.1},
            "local_decay": 0.0,
            "relative_item_decay": 0.0,
        },
        "paper": {"local_optimizer": {"lr": 1e-3}, "payload_optimizer": {"lr": 1e-3}},
    }

    def __init__(self, config: FedNCFConfig, item: ItemEmbedding) -> None:
        super().__init__(item)
        self.config = config
        self.user = nn.Parameter(torch.zeros(item.embedding_dim))
        self.mlp = MLP(2 * item.embedding_dim, config.hidden)

    def score(self, vectors: Tensor) -> Tensor:
        return self.score_precomputed(self.precompute(vectors))

    # The first layer is W [user, item] + b = (W_user user + b) + W_item item: one part is the same
    # for all of a client's items, the other for all of an item's clients.

    def precompute(self, vectors: Tensor) -> Tensor:
        return F.linear(vectors, self.mlp.weights[0][:, len(self.user) :])

    def score_precomputed(self, precomputed: Tensor) -> Tensor:
        # mapped over clients, `weight @ user` would have them last, and what is added to it too
        weight, bias = self.mlp.weights[0][:, : len(self.user)], self.mlp.biases[0]
        offset = F.linear(self.user, weight, bias)
        return self.mlp.above(precomputed + offset)

    @property
    def activations(self) -> int:
        return super().activations + 2 * sum(self.config.hidden)  # before and after each ReLU

    def initial_local(self, draws: FirstDraws) -> dict[str, Tensor]:
        return {"user": draws.normal("user", len(self.user)) * self.config.init_std}

    def initial_shared(self, rng: torch.Generator) -> dict[str, Tensor]:
        return {f"mlp.{name}": tensor for name, tensor in self.mlp.draw(rng).items()}


backbones.register("fedncf", config=FedNCFConfig, build=FedNCF)
