"""How much the fast backends compute at once: buckets of clients, padded to the longest."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Limits:
    """What makes a good bucket on a kind of device.

    Attributes
    ----------
    most
        Bytes of activations, or of clients' tensors, that are computed at once.
    worthwhile
        Bytes up to which padding costs less than another bucket's calls.
    cached
        Bytes that passes over the same values, one after the other, find in the cache.
    spread
        How many times as long as its shortest the longest history of a larger bucket may be.
    """

    most: int
    worthwhile: int
    cached: int
    spread: float


LIMITS = {
    # what fits the cache beats what amortises calls
    "cpu": Limits(most=1 << 24, worthwhile=1 << 20, cached=1 << 19, spread=1.5),
    # calls cost more than arithmetic
    "cuda": Limits(most=1 << 28, worthwhile=1 << 24, cached=1 << 28, spread=3.0),
}


def at_once(values: int, device: torch.device) -> int:
    """Return how many things of so many float32 values each are computed at once; at least one."""
    return _within(LIMITS[device.type].most, values)


def in_cache(values: int, device: torch.device) -> int:
    """Return how many things of so many float32 values each stay in the cache; at least one."""
    return _within(LIMITS[device.type].cached, values)


def _within(limit: int, values: int) -> int:
    return max(1, limit // (4 * max(1, values)))


def ran_out(error: BaseException) -> bool:
    """Return whether an error says that memory did not suffice."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _RAN_OUT)


_RAN_OUT = (
    "allocate memory",
    "out of memory",
    "array is too big",
    "Maximum allowed dimension exceeded",
    "Storage size calculation overflowed",
)
"""What numpy and torch say of it in other errors."""
