"""FedMF: score = user vector . item vector (Chai et al. 2021, without the encryption)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedpeft.adapters import ItemEmbedding
from fedpeft.backbones.base import Backbone, BackboneConfig, backbones
from fedpeft.streams import FirstDraws


class FedMFConfig(BackboneConfig):
    """Settings of FedMF."""

    starts: ClassVar = frozenset({"init_std"})

    init_std: float = Field(0.1, ge=0)
    """Standard deviation of a new user's vector."""


class FedMF(Backbone):
    """Matrix factorisation; the user vector is local, nothing but item tensors is shared."""

    local = ("user",)
    user_vector = "user"

    def __init__(self, config: FedMFConfig, item: ItemEmbedding) -> None:
        super().__init__(item)
        self.config = config
        self.user = nn.Parameter(torch.zeros(item.embedding_dim))

    def score(self, vectors: Tensor) -> Tensor:
        return vectors @ self.user

    def initial_local(self, draws: FirstDraws) -> dict[str, Tensor]:
        return {"user": draws.normal("user", len(self.user)) * self.config.init_std}


backbones.register("fedmf", config=FedMFConfig, build=FedMF)
