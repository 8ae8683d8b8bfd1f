"""Item encoders: what turns the texts of a catalogue into dense input vectors.

An encoder is one file and one registration.  Another package adds one through the entry-point group
``fedpeft.item_encoders``.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedpeft.data.dataset import Catalogue
from fedpeft.registry import Registry

Floats = NDArray[np.float32]


class Encoder(Protocol):
    """Built from its own checked options: ``build(options) -> Encoder``."""

    def identity(self) -> str:
        """Return what decides the vectors besides options and texts: versions, file contents."""
        ...

    def encode(self, catalogue: Catalogue) -> Floats:
        """Return float32 of shape (n, D), all finite; an item without text is a row of zeros."""
        ...


encoders: Registry[Encoder] = Registry(
    "item encoder",
    "item_encoders",
    builtin=(
        "fedpeft.items.encoders.tfidf",
        "fedpeft.items.encoders.sentence_transformers",
        "fedpeft.items.encoders.array",
    ),
)


def unit_rows(vectors: Floats) -> Floats:
    """Scale each row to length 1; rows of zeros stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Floats = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return scaled
