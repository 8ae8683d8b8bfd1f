"""Clipping: no client moves the payload further than a given distance."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from fedpeft.config import ConfigModel
from fedpeft.tensors import Tensors
from fedpeft.transforms.base import UpdateTransform, transforms


class ClipConfig(ConfigModel):
    """Settings of clipping."""

    norm: float = Field(1.0, gt=0)
    """Largest L2 norm of a client's change, over all its tensors together."""


class Clip(UpdateTransform):
    """Scales a client's change down to the norm where it is larger (McMahan et al. 2018, 3.2).

    It bounds what a single client can do to the payload.  That alone is no privacy: nothing hides
    the update itself.
    """

    def __init__(self, config: ClipConfig, seed: int) -> None:
        self.config = config

    def on_user(self, change: Tensors, ids: Tensor) -> Tensors:
        squares = [tensor.square().unsqueeze(-1).flatten(1).sum(1) for tensor in change.values()]
        norm = torch.stack(squares).sum(0).sqrt()
        factor = (self.config.norm / norm.clamp(min=1e-30)).clamp(max=1)
        return {n: t * factor.view(-1, *[1] * (t.dim() - 1)) for n, t in change.items()}

    @property
    def bound(self) -> float:
        return self.config.norm


transforms.register("clip", config=ClipConfig, build=Clip)
