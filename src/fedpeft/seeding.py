"""One seed, split by name, so that every part and every backend draws the same numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def sequence(seed: int, *path: str | int) -> np.random.SeedSequence:
    """Return the seed sequence of the named stream, e.g. ``sequence(0, "round", 3, "cohort")``."""
    words = [
        part
        if isinstance(part, int)
        else int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little")
        for part in path
    ]
    return np.random.SeedSequence([seed, *words])


def numpy_rng(seed: int, *path: str | int) -> np.random.Generator:
    """Return a NumPy generator for the named stream."""
    return np.random.default_rng(sequence(seed, *path))


def torch_rng(seed: int, *path: str | int) -> torch.Generator:
    """Return a CPU torch generator for the named stream."""
    state = sequence(seed, *path).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & 0x7FFF_FFFF_FFFF_FFFF)
