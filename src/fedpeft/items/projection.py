"""Projections: from input vectors to latents, by a trained network or on principal axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fedpeft.errors import ArtifactError
from fedpeft.items.networks import Scaling, apply_chunked, mlp
from fedpeft.items.state import State


class Projection(Protocol):
    """Row-wise and without gradients: (m, D) vectors to (m, k) latents."""

    @property
    def width(self) -> int:
        """D, the columns of the vectors."""
        ...

    @property
    def dim(self) -> int:
        """k, the columns of the latents."""
        ...

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return float32 of shape (m, k)."""
        ...

    def state(self) -> State:
        """Return all it consists of."""
        ...


@dataclass(frozen=True, eq=False)
class Network:
    """The encoder half of an autoencoder, and the scaling of its inputs."""

    scaling: Scaling
    layers: nn.Sequential

    @property
    def width(self) -> int:
        return len(self.scaling.mean)

    @property
    def dim(self) -> int:
        return len(self.layers[-1].get_parameter("bias"))

    def __call__(self, vectors: Tensor) -> Tensor:
        return apply_chunked(lambda chunk: self.layers(self.scaling(chunk)), vectors)

    def state(self) -> State:
        layers = {name: tensor.detach() for name, tensor in self.layers.state_dict().items()}
        return State({**_scaling_tensors(self.scaling), **layers})

    @classmethod
    def of(cls, state: State) -> Network:
        """Rebuild what `state` returned; raises `ArtifactError` if it does not fit together."""
        scaling = _scaling_of(state)
        sizes = [len(scaling.mean)]
        layers: dict[str, Tensor] = {}
        for place in range(0, len(state.tensors), 2):  # between two layers is a ReLU
            if layers and f"{place}.weight" not in state.tensors:
                break
            weight = state.tensor(f"{place}.weight", None, sizes[-1])
            sizes.append(len(weight))
            layers[f"{place}.weight"] = weight
            layers[f"{place}.bias"] = state.tensor(f"{place}.bias", len(weight))
        network = mlp(sizes, torch.Generator())
        network.load_state_dict(layers)
        return cls(scaling, network)


@dataclass(frozen=True, eq=False)
class Axes:
    """Principal axes, and the scaling of the vectors that are projected on them.

    Attributes
    ----------
    rows
        The axes, float32 of shape (a, D).
    dim
        k >= a, columns of the latents; those beyond a are zero.
    """

    scaling: Scaling
    rows: Tensor
    dim: int

    @property
    def width(self) -> int:
        return len(self.scaling.mean)

    def __call__(self, vectors: Tensor) -> Tensor:
        latents = apply_chunked(lambda chunk: self.scaling(chunk) @ self.rows.T, vectors)
        return nn.functional.pad(latents, (0, self.dim - len(self.rows)))

    def state(self) -> State:
        return State({**_scaling_tensors(self.scaling), "axes": self.rows})

    @classmethod
    def of(cls, state: State, dim: int) -> Axes:
        """Rebuild what `state` returned; raises `ArtifactError` if it does not fit together."""
        scaling = _scaling_of(state)
        rows = state.tensor("axes", None, len(scaling.mean))
        if len(rows) > dim:
            raise ArtifactError(f"{state.where} has {len(rows)} axes for {dim}")
        # products of matrices may round by where the memory begins, which a file does not keep
        return cls(scaling, rows.clone(), dim)


def projection_of(state: State, dim: int) -> Projection:
    """Rebuild a projection to `dim` latents from what its `state` returned.

    Raises
    ------
    ArtifactError
        If it does not fit together.
    """
    if "axes" in state.tensors:
        return Axes.of(state, dim)
    network = Network.of(state)
    if network.dim != dim:
        raise ArtifactError(f"{state.where} makes {network.dim} latents, not {dim}")
    return network


def _scaling_tensors(scaling: Scaling) -> dict[str, Tensor]:
    return {"mean": scaling.mean, "std": torch.tensor(scaling.std, dtype=torch.float64)}


def _scaling_of(state: State) -> Scaling:
    std = float(state.tensor("std", dtype=torch.float64))
    if not (math.isfinite(std) and std > 0):
        raise ArtifactError(f"{state.where} has std {std}, which must be > 0")
    return Scaling(state.tensor("mean", None), std)
