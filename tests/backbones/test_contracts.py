"""The backbones this project ships keep the contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from fedpeft.adapters import ItemEmbedding
from fedpeft.backbones import Backbone, BackboneConfig, backbones
from fedpeft.streams import FirstDraws
from fedpeft.testing import BackboneContract


class Tilted(Backbone):
    """A backbone of one's own: local and shared parameters, some of them plain numbers."""

    local = ("user", "bias")

    def __init__(self, config: BackboneConfig, item: ItemEmbedding) -> None:
        super().__init__(item)
        self.user = nn.Parameter(torch.zeros(item.embedding_dim))
        self.bias = nn.Parameter(torch.zeros(()))
        self.taste = nn.Parameter(torch.zeros(item.embedding_dim))
        self.slope = nn.Parameter(torch.ones(()))

    def score(self, vectors: Tensor) -> Tensor:
        return torch.tanh(self.slope * (vectors @ (self.user + self.taste)) + self.bias)

    def initial_local(self, draws: FirstDraws) -> dict[str, Tensor]:
        return {
            "user": draws.normal("user", self.taste.numel()) * 0.1,
            "bias": draws.normal("bias") * 0.1,
        }


@pytest.fixture(autouse=True, scope="module")
def tilted() -> Iterator[None]:
    """Register the backbone for these tests only."""
    backbones.register("tilted", config=BackboneConfig, build=Tilted)
    yield
    backbones.unregister("tilted")


class TestOnesOwn(BackboneContract):
    kind = "tilted"
    ndcg_floor = 0.6


class TestFedMF(BackboneContract):
    kind = "fedmf"
    ndcg_floor = 0.9


class TestFedMFLeastSquares(BackboneContract):
    kind = "fedmf"
    loss = ("ials", {"unobserved_weight": 0.2})
    training: ClassVar = {"local": "solve", "local_steps": 0, "local_decay": 0.1}
    ndcg_floor = 0.8
