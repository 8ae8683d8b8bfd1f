"""Item encoders: what turns the texts of a catalogue into dense input vectors.

An encoder is one file and one registration.  Another package adds one through the entry-point group
``fedpeft.item_encoders``.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedpeft.data.dataset import Catalogue
from fedpeft.items.state import State
from fedpeft.registry import Registry

Floats = NDArray[np.float32]


class Encoder(Protocol):
    """Built from its own checked options: ``build(options) -> Encoder``.

    An encoder keeps nothing of what it saw.  All that fitting finds is in the state that it
    returns, so that items which arrive later are encoded like those it was fitted on.
    """

    def identity(self) -> str:
        """Return what decides the vectors besides options and texts: versions, file contents."""
        ...

    def fit(self, catalogue: Catalogue) -> State:
        """Return what has to be known of a catalogue to encode items, old and new."""
        ...

    def transform(self, state: State, items: Catalogue) -> Floats:
        """Encode m >= 1 items, known or new.

        Returns
        -------
        float32 of shape (m, D), all finite; an item without text is a row of zeros.  D is the same
        at each call with one state.
        """
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
