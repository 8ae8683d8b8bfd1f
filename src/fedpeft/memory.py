"""Memory: how much the fast backends compute at once, what a process keeps, what ran out."""

from __future__ import annotations

import ctypes
import sys
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


def keep_freed() -> bool:
    """Let the process keep memory that it frees, as the next round needs as much again.

    By default glibc gives large tensors back to the system and asks for them anew, some 10,000 page
    faults in a round and up to half of its time.  Peak memory stays as it is.

    Returns
    -------
    bool
        Whether it does; only glibc's allocator can be told.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    most = LIMITS["cpu"].most
    return bool(mallopt(_MMAP_THRESHOLD, 4 * most) and mallopt(_TRIM_THRESHOLD, 16 * most))


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of `mallopt`'s parameters in glibc's malloc.h."""


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
