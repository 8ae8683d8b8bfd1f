"""The scoring model of ONE client, as a plain torch module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedpeft.adapters import ItemEmbedding
from fedpeft.config import ConfigModel
from fedpeft.registry import Registry
from fedpeft.streams import FirstDraws


class Backbone(nn.Module, ABC):
    """One client's recommender: an item embedding, local and shared parameters.

    Parameters
    ----------
    item
        The item embedding: base + adapter, a module that maps int64 ids (...) to vectors (..., k).

    Notes
    -----
    Parameters named in `local` never leave the client; all others beside the item embedding's are
    shared: they are part of the payload.
    """

    local: tuple[str, ...] = ()
    """Names of the local parameters."""
    kept: tuple[str, ...] = ()
    """Names of local buffers: a client's own like its local parameters, but not trained."""
    user_vector: ClassVar[str | None] = None
    """The local parameter u of shape (k,) for which score(v) = u . v, where there is one.  It
    makes the least-squares loss and exact local solves possible."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """What each preset sets otherwise for this backbone where local parameters move by gradient:
    preset -> settings of `TrainingConfig`."""

    def __init__(self, item: ItemEmbedding) -> None:
        super().__init__()
        self.item = item

    @abstractmethod
    def score(self, vectors: Tensor) -> Tensor:
        """Return scores, float (...), of item vectors, float (..., k)."""

    def reader(self) -> Tensor:
        """Return r, float (k,), with score(v) = r . v; only where there is a `user_vector`."""
        assert self.user_vector is not None
        user: Tensor = getattr(self, self.user_vector)  # no parameter in a functional call
        return user

    def precompute(self, vectors: Tensor) -> Tensor:
        """Return what scoring needs of item vectors, float (..., k) -> float (..., e).

        It may depend on shared parameters, never on local ones, so that the fast backends compute
        it once for all clients.  A backbone that overrides it overrides `score_precomputed` too.
        """
        return vectors

    def score_precomputed(self, precomputed: Tensor) -> Tensor:
        """Return scores, float (...), of precomputed items.

        ``score(v)`` equals ``score_precomputed(precompute(v))``.
        """
        return self.score(precomputed)

    @property
    def activations(self) -> int:
        """About how many values scoring one item holds; fast backends size their buckets by it."""
        return self.item.embedding_dim

    def forward(self, ids: Tensor) -> Tensor:
        """Return scores, float (...), of items, int64 (...)."""
        scores: Tensor = self.score(self.item(ids))
        return scores

    @abstractmethod
    def initial_local(self, draws: FirstDraws) -> dict[str, Tensor]:
        """Return fresh local parameters of many clients, name -> float (clients, ...).

        A client's values come from its own stream (`draws.normal`), or are the same for all
        (`draws.common`), so that a device can draw its own.
        """

    def initial_shared(self, rng: torch.Generator) -> dict[str, Tensor]:
        """Return what the shared parameters start from, by name; those left out stay as built."""
        return {}

    def shared(self) -> dict[str, nn.Parameter]:
        """Return the shared parameters: all but local and item-embedding ones."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if name not in self.local and not name.startswith("item.")
        }


Width = Annotated[int, Field(ge=1)]
"""Values per vector inside a backbone."""


class BackboneConfig(ConfigModel):
    """Settings every backbone has."""

    starts: ClassVar[frozenset[str]] = frozenset()
    """Keys that say only what local parameters start from, so that an exact solve ignores them."""

    @property
    def sends_local(self) -> bool:
        """Whether clients send local parameters to others, as they have them stored."""
        return False


backbones: Registry[Backbone] = Registry(
    "backbone",
    "backbones",
    builtin=tuple(
        f"fedpeft.backbones.{name}" for name in ("fedmf", "fedncf", "pfedrec", "fedpergnn")
    ),
    config=BackboneConfig,
)
