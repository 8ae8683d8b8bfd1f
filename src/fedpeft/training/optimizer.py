"""Settings of first-order optimisers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedpeft.config import ActsIf, ConfigModel
from fedpeft.training.derive import LEAST_EPS

_SGD = ActsIf("kind = 'sgd'", lambda table: table.kind == "sgd")
_ADAM = ActsIf("kind = 'adam'", lambda table: table.kind == "adam")


class OptimizerConfig(ConfigModel):
    """A first-order optimiser."""

    acting: ClassVar = {"momentum": _SGD, "beta1": _ADAM, "beta2": _ADAM, "eps": _ADAM}

    kind: Literal["sgd", "adam"] = "adam"
    """`sgd` (with `momentum`) or `adam` (Kingma and Ba 2015)."""
    lr: float = Field(0.01, gt=0)
    """Learning rate."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Heavy-ball momentum of `sgd`."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of Adam's first moment."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of Adam's second moment."""
    eps: float | None = Field(None, gt=0)
    """Added to Adam's denominator.  None: 1e-8, and for the server more on sparse data, as
    `training.sparse_eps` says."""

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return a fresh optimiser over `parameters`."""
        if self.kind == "sgd":
            return torch.optim.SGD(list(parameters), lr=self.lr, momentum=self.momentum)
        eps = LEAST_EPS if self.eps is None else self.eps
        return torch.optim.Adam(
            list(parameters), lr=self.lr, betas=(self.beta1, self.beta2), eps=eps, fused=True
        )

    @property
    def open(self) -> bool:
        """Whether `eps` is still to be filled in."""
        return self.kind == "adam" and self.eps is None
