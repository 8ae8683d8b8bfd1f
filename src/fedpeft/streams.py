"""Random numbers that belong to clients, from a counter: a device can draw its own, alone.

A stream has a name (seed and path) and serves every client by its id.  Number j of client u is a
function of (name, u, j) and of nothing else, so a simulator draws for a whole cohort at once what
each device would draw for itself.  The generator is SplitMix64 (Steele, Lea and Flood 2014), whose
state is a counter; only integer arithmetic decides the words.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from fedpeft.seeding import sequence, torch_rng

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53


def mix(state: Words) -> Words:
    """Return the words of SplitMix64 states, uint64 of any shape."""
    word = np.right_shift(state, np.uint64(30))  # in place from here on: memory costs most
    word ^= state
    word *= _FIRST
    shifted = np.right_shift(word, np.uint64(27))
    word ^= shifted
    word *= _SECOND
    np.right_shift(word, np.uint64(31), out=shifted)
    word ^= shifted
    return word


class ClientStream:
    """One named stream of random numbers for each client.

    Parameters
    ----------
    seed
        Seed of the run.
    path
        The rest of the name, such as ``"round", 3, "negatives"``.
    """

    def __init__(self, seed: int, *path: str | int) -> None:
        self._key = sequence(seed, *path).generate_state(1, np.uint64)[0]

    def words(self, ids: Ints, places: Ints, row: Ints | None = None) -> Words:
        """Return words number `places` of clients `ids`, uint64, of their common shape.

        With `row`, int64 of the shape of `places`, they are those of client ``ids[row]``.
        """
        starts = mix(self._key + _GOLDEN * (ids.astype(np.uint64) + np.uint64(1)))
        states = places.astype(np.uint64)
        states += np.uint64(1)
        states *= _GOLDEN
        return mix(states + (starts if row is None else starts[row]))

    def uniform(self, ids: Ints, places: Ints, row: Ints | None = None) -> NDArray[np.float64]:
        """Return numbers uniform in [0, 1), float64; parameters as for `words`."""
        words = self.words(ids, places, row)
        words >>= np.uint64(11)
        drawn = words.astype(np.float64)
        drawn *= _UNIT
        return drawn

    def below(self, ids: Ints, places: Ints, limits: Ints | int, row: Ints | None = None) -> Ints:
        """Return integers uniform in [0, limit), int64, for limits up to 2^31; see `words`."""
        drawn = self.uniform(ids, places, row)
        drawn *= limits
        return drawn.astype(np.int64)

    def normal(self, ids: Ints, values: int) -> NDArray[np.float32]:
        """Return standard normal numbers, float32 (clients, values), two for two words each.

        They are those of Box and Muller (1958).
        """
        pairs = -(-values // 2)
        places = np.arange(2 * pairs)
        drawn = self.uniform(ids[:, None], places[None, :])
        radius = np.sqrt(-2 * np.log1p(-drawn[:, :pairs]))
        angle = 2 * np.pi * drawn[:, pairs:]
        both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        return both[:, :values].astype(np.float32)


class FirstDraws:
    """What clients draw once, before their first round: start values of local parameters.

    Parameters
    ----------
    seed
        Seed of the run.
    ids
        int64 (clients,).
    """

    def __init__(self, seed: int, ids: Ints) -> None:
        self._seed, self._ids = seed, ids

    @property
    def clients(self) -> int:
        """Number of clients."""
        return len(self._ids)

    @property
    def common(self) -> torch.Generator:
        """A fresh generator that is the same for every client, for what all start alike from."""
        return torch_rng(self._seed, "local")

    def normal(self, name: str, *shape: int) -> torch.Tensor:
        """Return standard normal start values of one parameter, float32 (clients, *shape)."""
        drawn = ClientStream(self._seed, "local", name).normal(self._ids, math.prod(shape))
        return torch.from_numpy(drawn).view(-1, *shape)
