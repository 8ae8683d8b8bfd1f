"""FedPerGNN: a graph layer over the client's own graph (Wu et al., Nature Communications 2022)."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedpeft.adapters import ItemEmbedding
from fedpeft.backbones.base import BackboneConfig, backbones
from fedpeft.backbones.history import Context, ExpansionConfig, HistoryBackbone
from fedpeft.config import ActsIf
from fedpeft.streams import FirstDraws


class FedPerGNNConfig(BackboneConfig):
    """Settings of FedPerGNN."""

    acting: ClassVar = {
        "neighbours": ActsIf("expansion.every above 0", lambda table: table.expansion.every > 0)
    }
    starts: ClassVar = frozenset({"init_std"})

    init_std: float = Field(0.1, ge=0)
    """Standard deviation of a new user's vector."""
    items: float = Field(1.0, ge=0)
    """Weight of the mean vector of the client's train items."""
    neighbours: float = Field(1.0, ge=0)
    """Weight of the mean vector of the client's anonymous neighbours."""
    expansion: ExpansionConfig = ExpansionConfig()
    """How clients find their anonymous neighbours."""

    @property
    def sends_local(self) -> bool:
        return self.expansion.every > 0


class FedPerGNN(HistoryBackbone):
    """Two steps of mean aggregation over the client's own graph: score(v) = (u + c) . v.

    First every train item takes in the neighbours that have it too, h = v + b n; then the user
    takes in its items, u + a mean(h).  Written out, c = a mean(v) + b n with n the mean over items
    of the mean over neighbours.

    Notes
    -----
    Different from the paper: the aggregation is LightGCN's (means, no weights, no non-linearity; He
    et al. 2020) instead of graph attention, so nothing but item tensors is shared and the score is
    linear in u.  Item vectors take nothing in when they are *scored*: only items a client has could
    (from the client and its neighbours), and candidates are items it does not have, so training
    would learn to tell the two apart by that.
    """

    local = ("user",)
    kept = ("neighbours",)
    user_vector = "user"
    presets: ClassVar = {  # as published
        "paper": {"local_optimizer": {"lr": 1e-3}, "payload_optimizer": {"lr": 1e-3}}
    }
    neighbours: Tensor

    def __init__(self, config: FedPerGNNConfig, item: ItemEmbedding) -> None:
        super().__init__(item)
        self.config = config
        self.expansion = config.expansion
        self.user = nn.Parameter(torch.zeros(item.embedding_dim))
        self.register_buffer("neighbours", torch.zeros(item.embedding_dim))

    def context(self, vectors: Tensor, weight: Tensor) -> Context:
        a, b = self.config.items, self.config.neighbours
        weighted = weight.unsqueeze(-1) * vectors
        total, total_weight = weighted.sum(0), weight.sum()
        near = b * self.neighbours
        left = (total_weight - weight).unsqueeze(-1)
        return Context(
            a * total / total_weight.clamp(min=_NONE) + near,
            torch.where(left > _NONE, a * (total - weighted) / left.clamp(min=_NONE), 0.0) + near,
        )

    def initial_local(self, draws: FirstDraws) -> dict[str, Tensor]:
        return {"user": draws.normal("user", len(self.user)) * self.config.init_std}


_NONE = 1e-6
"""Weights that sum to no more are of no items at all, up to rounding."""

backbones.register("fedpergnn", config=FedPerGNNConfig, build=FedPerGNN)
