"""How the age of an interaction weighs it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from fedpeft.config import ActsIf, ConfigModel
from fedpeft.data.dataset import Floats, Histories, Ints
from fedpeft.errors import ConfigError


class RecencyConfig(ConfigModel):
    """How much less an old interaction of a client counts than its latest.

    The weight of the interaction with `a` later ones is ``floor + (1 - floor) * 2^(-a/half_life)``.
    A client applies it to its own history; nothing about it travels.
    """

    acting: ClassVar = {"floor": ActsIf("half_life above 0", lambda table: table.half_life != 0)}

    half_life: float | Literal["auto"] = 0.0
    """Later interactions after which the weight has fallen half-way to the floor; 0: all count
    alike.  `auto`: 5 where a centralised factorisation with these weights ranks the validation
    items clearly better than one without, else 0."""
    floor: float = Field(0.0, ge=0, le=1)
    """Weight of the oldest interactions, against 1 of the latest."""

    def weights(self, ages: Ints) -> NDArray[np.float64]:
        """Return the weight of interactions by age, float64 in [floor, 1], for int64 ages >= 0.

        Raises
        ------
        ConfigError
            If the half-life is left to the data still.
        """
        if self.half_life == "auto":
            raise ConfigError(
                "training.recency.half_life is not set; give a number, or resolve the settings "
                "with data"
            )
        if self.half_life == 0:
            return np.ones(ages.shape)
        decayed: NDArray[np.float64] = np.exp2(-np.maximum(ages, 0) / self.half_life)
        return self.floor + (1 - self.floor) * decayed

    def of(self, histories: Histories) -> Floats:
        """Return the weight of every interaction, float32, by its age and by what it was."""
        last = np.repeat(histories.indptr[1:], histories.lengths()) - 1
        weights = self.weights(last - np.arange(len(last))).astype(np.float32)
        return weights if histories.weights is None else weights * histories.weights

    @field_validator("half_life", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if number or value == "auto":
            return value
        raise ValueError(f"{value!r} must be a number, 0 or more, or 'auto'")
