"""Settings of optimisers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal, Self

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


_NEWTON = ActsIf("kind = 'newton'", lambda table: table.kind == "newton")


class ServerOptimizerConfig(OptimizerConfig):
    """An optimiser of the server: first-order, or Newton's method on statistics that clients send.

    Newton's method is for least squares: beside its change a client sends what its score says of
    the curvature; see `fedpeft.server.newton`.
    """

    acting: ClassVar = {
        **OptimizerConfig.acting,
        "momentum": ActsIf("kind = 'sgd' or 'newton'", lambda table: table.kind != "adam"),
        "prior": _NEWTON,
        "prior_at": ActsIf("a prior above 0", lambda table: table.prior > 0),
        "item_weight": _NEWTON,
        "population": ActsIf("a prior above 0", lambda table: table.prior > 0),
    }

    kind: Literal["sgd", "adam", "newton"] = "adam"  # type: ignore[assignment]
    """`sgd` (with `momentum`), `adam` (Kingma and Ba 2015), or `newton`, for which `lr` is the
    share of a whole Newton step, and `momentum` averages the clients' statistics over rounds."""
    prior: float = Field(0.0, ge=0)
    """Observations that the items' texts count as, for each item."""
    prior_at: Literal["base", "text_map"] = "text_map"
    """Where the prior pulls item vectors to: the pretrained base, or what a linear map of the texts
    makes of them, which the server fits to the present item table in each round."""
    item_weight: float | None = Field(None, gt=0)
    """c: what an item weighs in the loss of a client, on average over items and clients.  None: the
    density of the data times the mean weight of an interaction by its age."""
    population: int | None = Field(None, gt=0)
    """N: clients in all, which the prior is spread over.  None: from the data."""

    @property
    def open(self) -> bool:
        """Whether values that come from the data are still to be filled in."""
        if self.kind == "newton":
            return self.item_weight is None or (self.prior > 0 and self.population is None)
        return super().open

    def resolved(self, eps: float, item_weight: float, population: int) -> Self:
        """Return the settings with open values filled in."""
        if self.kind == "adam" and self.eps is None:
            return self.model_copy(update={"eps": eps})
        if self.kind != "newton":
            return self
        found = {"item_weight": self.item_weight or item_weight}
        if self.prior:
            found["population"] = self.population or population
        return self.model_copy(update=found)
