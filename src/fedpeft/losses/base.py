"""The loss of one client: what local training minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from torch import Tensor

from fedpeft.config import ConfigModel
from fedpeft.data.statistics import DataStatistics
from fedpeft.registry import Registry


class LossConfig(ConfigModel):
    """Settings every loss has."""

    def resolved(self, statistics: DataStatistics) -> Self:
        """Return the settings with every value that depends on the data as a number."""
        return self


class Loss(ABC):
    """A function of one client's scores.

    A loss is written for one client; the fast backends map it over many.  Padding: entries of
    weight 0 must not contribute, whatever their score.
    """

    unobserved_weight: float = 0.0
    """Weight of half the sum of squared scores over ALL items; not 0 only where the score is linear
    in the item vector, so that the sum is a k x k quadratic form."""
    least_squares: ClassVar[bool] = False
    """Whether the local problem is a ridge regression, so that it can be solved exactly."""
    weighting: ClassVar[str]
    """How clients are weighted in the average: `samples` where the loss is a mean over a client's
    samples, `uniform` where it is a sum."""

    @property
    def negatives(self) -> int:
        """Negatives drawn per positive."""
        return 0

    @abstractmethod
    def __call__(self, positive: Tensor, negative: Tensor, weight: Tensor) -> Tensor:
        """Return one client's loss.

        Parameters
        ----------
        positive
            float (L,): scores of the client's train items.
        negative
            float (L, m): scores of the m negatives drawn for each.
        weight
            float (L,): importance of each train item, above 0; 0 for padding.

        Returns
        -------
        Tensor
            float scalar.
        """


losses: Registry[Loss] = Registry(
    "loss",
    "losses",
    builtin=tuple(f"fedpeft.losses.{name}" for name in ("bpr", "bce", "ials", "softmax")),
    config=LossConfig,
)
