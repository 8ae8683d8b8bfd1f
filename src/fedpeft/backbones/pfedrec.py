"""PFedRec: a local score function over shared item vectors (Zhang et al., IJCAI 2023)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from fedpeft.adapters import ItemEmbedding
from fedpeft.backbones.base import Backbone, BackboneConfig, Width, backbones
from fedpeft.backbones.mlp import MLP
from fedpeft.streams import FirstDraws


class PFedRecConfig(BackboneConfig):
    """Settings of PFedRec."""

    hidden: tuple[Width, ...] = Field((64, 32), min_length=1)
    """Widths of the hidden layers of the score function."""


class PFedRec(Backbone):
    """Dual personalisation: each client has its own score function and no user vector.

    All clients start from the same score function.  The other half of the dual personalisation,
    a client's own copy of the item vectors, is what it has after its payload steps:
    ``training.inference = "personalise"`` scores with it.
    """

    # chosen on validation (fedpeft); as published (paper)
    presets: ClassVar = {
        "fedpeft": {
            "local_steps": 1,
            "local_optimizer": {"lr": 0.02},
            "local_schedule": "inverse",
            "local_decay": 1e-3,
            "relative_item_decay": 0.07,
        },
        "paper": {"local_optimizer": {"lr": 1e-3}, "payload_optimizer": {"lr": 1e-3}},
    }

    def __init__(self, config: PFedRecConfig, item: ItemEmbedding) -> None:
        super().__init__(item)
        self.config = config
        self.mlp = MLP(item.embedding_dim, config.hidden)
        self.local = tuple(f"mlp.{name}" for name, _ in self.mlp.named_parameters())

    def score(self, vectors: Tensor) -> Tensor:
        scores: Tensor = self.mlp(vectors)
        return scores

    @property
    def activations(self) -> int:
        return super().activations + 2 * sum(self.config.hidden)  # before and after each ReLU

    def initial_local(self, draws: FirstDraws) -> dict[str, Tensor]:
        return {
            f"mlp.{name}": tensor.expand(draws.clients, *tensor.shape).contiguous()
            for name, tensor in self.mlp.draw(draws.common).items()
        }


backbones.register("pfedrec", config=PFedRecConfig, build=PFedRec)
