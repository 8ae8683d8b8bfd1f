"""A model with an embedding of items, with which the tests do what torch users do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fedpeft
from fedpeft.adapters import ItemEmbedding

KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"rank": 3},
    "hash": {"rows": 16},
    "rq": {"levels": 2, "codes": 8},
}
COMPUTED = [kind for kind in KINDS if kind != "full"]
N, K = 40, 8


class Sequential(nn.Module):
    """A next-item model with a tied softmax, as SASRec and GRU4Rec write it."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(N, K, padding_idx=0)
        self.mix = nn.Linear(K, K)
        self.bias = nn.Parameter(torch.zeros(N))

    def forward(self, sequences: Tensor) -> Tensor:
        state = self.mix(self.items(sequences)).tanh().mean(-2)
        return F.linear(state, self.items.weight, self.bias)


SEQUENCES, TARGETS = torch.tensor([[5, 7, 0, 0], [1, 2, 3, 39]]), torch.tensor([4, 6])


def swapped(kind: str = "lora", **settings: Any) -> tuple[Sequential, ItemEmbedding]:
    """Return a model with an adapter in it, and the adapter."""
    torch.manual_seed(0)
    model = Sequential()
    settings = {**KINDS[kind], **settings}
    return model, fedpeft.replace_embedding(model, "items", kind=kind, **settings)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(SEQUENCES), TARGETS).backward()
        optimizer.step()


def xavier(model: nn.Module) -> None:
    """As the transformer recommenders have it."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_normal_(parameter)


def uniform(model: nn.Module) -> None:
    """As SR-GNN has it."""
    for parameter in model.parameters():
        parameter.data.uniform_(-0.1, 0.1)
