"""Backbones that see their own client's train history, and nobody else's."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from fedpeft.adapters import ItemEmbedding
from fedpeft.backbones.base import Backbone
from fedpeft.config import ActsIf, ConfigModel


class ExpansionConfig(ConfigModel):
    """Settings of the graph expansion; see `fedpeft.graph.expansion`."""

    acting: ClassVar = {
        **dict.fromkeys(
            ("neighbours", "pseudo", "clip", "noise"),
            ActsIf("every above 0", lambda table: table.every > 0),
        ),
        "mask_upload": ActsIf(
            "every and pseudo above 0", lambda table: table.every > 0 and table.pseudo > 0
        ),
    }

    every: int = Field(100, ge=0)
    """Rounds between expansions, the first of them after as many; 0 never expands."""
    neighbours: int = Field(3, ge=1, le=1000)
    """Anonymous neighbours that the matching server returns for a token, at most."""
    pseudo: int = Field(1, ge=0, le=100)
    """Items a client pretends to have, for each it has.  Drawn once: two different draws would have
    only the true items in common."""
    clip: float = Field(5.0, gt=0)
    """Largest length of the vector a client sends; longer ones are shortened to it."""
    noise: float = Field(0.0, ge=0)
    """Standard deviation of the Gaussian noise on each value of the vector sent, as a share of
    `clip`."""
    mask_upload: bool = False
    """Whether the rows of pseudo items in a client's upload look touched too.  It needs each
    client's own upload, so the fused backend is out."""


class Context(NamedTuple):
    """What a client's history adds to its user vector.

    Attributes
    ----------
    whole
        float (k,): for items outside the history.
    others
        float (L, k): for each train item, from all but itself.
    """

    whole: Tensor
    others: Tensor


class HistoryBackbone(Backbone):
    """A client that looks at its own train items: score(v) = (u + c) . v.

    u is the local `user_vector` vector and c the context, a function of the history's item vectors.
    A train item is scored in the context of the *others*: with its own vector in c, the score would
    hold v . v, and training would find that a long vector explains every interaction (FISM leaves
    the item out for the same reason: Kabbur et al. 2013, eq. 4).

    Notes
    -----
    The history is data, not state: it is in no `state_dict`.  The fast backends pass the vectors of
    the train items they have gathered to `context`; `forward` uses what `remember` was told.
    """

    user_vector: ClassVar[str]
    expansion: ExpansionConfig | None = None
    """Where set, the kept tensor ``neighbours``, float (k,), is refreshed by graph expansion."""
    history_ids: Tensor
    history_weight: Tensor

    def __init__(self, item: ItemEmbedding) -> None:
        super().__init__(item)
        self.register_buffer("history_ids", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_buffer("history_weight", torch.zeros(0), persistent=False)

    def remember(self, ids: Tensor, weight: Tensor) -> None:
        """Set the client's own train items, int64 (L,), and how much each counts, float (L,)."""
        self.history_ids, self.history_weight = ids, weight

    @abstractmethod
    def context(self, vectors: Tensor, weight: Tensor) -> Context:
        """Return what a history adds.

        Parameters
        ----------
        vectors
            float (L, k): vectors of the train items.
        weight
            float (L,): how much each counts; entries of weight 0 are padding and change nothing.
        """

    def score(self, vectors: Tensor) -> Tensor:
        """Return scores, float (...), of vectors, float (..., k), of items outside the history."""
        context = self.context(self.item(self.history_ids), self.history_weight)
        user: Tensor = getattr(self, self.user_vector)  # no parameter in a functional call
        return vectors @ (user + context.whole)

    def forward(self, ids: Tensor) -> Tensor:
        """Return scores, float (...), of items, int64 (...), each in the context of the others."""
        history = self.item(self.history_ids)
        context = self.context(history, self.history_weight)
        # one row for each train item, and a last one for all that are none
        rows = torch.cat([context.others, context.whole.unsqueeze(0)])
        place = torch.full((self.item.num_embeddings,), len(history), device=ids.device)
        place[self.history_ids] = torch.arange(len(history), device=ids.device)
        reader = self.get_parameter(self.user_vector) + rows[place[ids]]
        scores: Tensor = (self.item(ids) * reader).sum(-1)
        return scores
