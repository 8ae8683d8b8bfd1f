"""The reduction: from input vectors to base rows, fitted once and then applied to any items."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedpeft.items.autoencoder import LatentReport, principal_components, train_autoencoder
from fedpeft.items.config import ItemsConfig
from fedpeft.items.networks import Progress
from fedpeft.items.projection import Projection, projection_of
from fedpeft.items.state import State


@dataclass(frozen=True, eq=False)
class Reduction:
    """A projection to k latents, which are then centred and scaled as a whole.

    They are not whitened: the latents are close to isotropic already (effective rank 29 to 31 of 32
    on real catalogues), whitening changed neither neighbours nor ranking there, and it would blow
    up dimensions that hold only noise.

    Attributes
    ----------
    centre
        Mean latents of the items it was fitted on, float32 of shape (k,).
    factor
        float32 of shape (): what gives those items' entries the standard deviation asked for.
    """

    projection: Projection
    centre: Tensor
    factor: Tensor

    @property
    def dim(self) -> int:
        """k, the columns of the rows."""
        return len(self.centre)

    def transform(self, inputs: Tensor) -> Tensor:
        """Return base rows, float32 of shape (m, k), of (m, D) vectors; zeros stay zeros."""
        filled = inputs.any(dim=1)
        rows = torch.zeros(len(inputs), self.dim)
        known = inputs if filled.all() else inputs[filled]
        rows[filled] = (self.projection(known) - self.centre) * self.factor
        return rows

    def state(self) -> State:
        """Return all it consists of."""
        own = State({"centre": self.centre, "factor": self.factor})
        return own.with_part("projection.", self.projection.state())

    @classmethod
    def of(cls, state: State) -> Reduction:
        """Rebuild what `state` returned; raises `ArtifactError` if it does not fit together."""
        centre = state.tensor("centre", None)
        projection = projection_of(state.part("projection."), len(centre))
        return cls(projection, centre, state.tensor("factor"))


def fit_reduction(
    inputs: Tensor, config: ItemsConfig, progress: Progress
) -> tuple[Reduction, LatentReport]:
    """Fit the reduction that the configuration asks for, on the items that have text.

    Parameters
    ----------
    inputs
        float32 of shape (n, D); rows of zeros are items without text.

    Raises
    ------
    CollapseError
        If the latents carry no information about the inputs.
    """
    filled = inputs.any(dim=1)
    known = inputs if filled.all() else inputs[filled]
    projection: Projection
    if config.base == "svd":
        projection, latents, told = principal_components(known, config.dim)
    else:
        projection, latents, told = train_autoencoder(known, config, progress)
    centre = latents.mean(dim=0)
    factor = config.scale / (latents - centre).square().mean().sqrt()
    return Reduction(projection, centre, factor), told
