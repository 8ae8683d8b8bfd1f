"""A fitted encoder: what encodes any items as it encoded those it was fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedpeft.config import parse
from fedpeft.data.dataset import Catalogue
from fedpeft.errors import ConfigError
from fedpeft.items.encoders import Encoder, encoders
from fedpeft.items.state import State


@dataclass(frozen=True, eq=False)
class FittedEncoder:
    """An item encoder, the name and options it was built from, and the state of its fit."""

    kind: str
    options: Mapping[str, Any]
    encoder: Encoder
    state: State

    def transform(self, items: Catalogue) -> Tensor:
        """Return the input vectors of m >= 1 items, float32 of shape (m, D).

        Raises
        ------
        ConfigError
            If the encoder returns something else than it should.
        FedpeftError
            As the encoder's own ``transform`` does.
        """
        vectors: object = self.encoder.transform(self.state, items)
        if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32:
            found = getattr(vectors, "dtype", type(vectors).__name__)
            raise ConfigError(f"item encoder {self.kind!r} must return float32, returns {found}")
        if vectors.ndim != 2 or len(vectors) != len(items) or vectors.shape[1] == 0:
            raise ConfigError(
                f"item encoder {self.kind!r} must return one row for each of {len(items)} items, "
                f"returns shape {vectors.shape}"
            )
        if not np.isfinite(vectors).all():
            raise ConfigError(f"item encoder {self.kind!r} returns NaN or infinities")
        return torch.from_numpy(np.ascontiguousarray(vectors))


def build_encoder(kind: str, options: Mapping[str, Any]) -> Encoder:
    """Build the encoder registered as `kind`.

    Raises
    ------
    ConfigError
        If there is none, or it does not have these options.
    """
    part = encoders.get(kind)
    return part.build(parse(part.config, options, "items.options"))
