"""Paired, interleaved timing: A B A B ..., so that a busy moment hits all variants alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Run = Callable[[], object]
"""A variant: what is timed when it is called."""


@dataclass(frozen=True)
class Times:
    """Seconds of each repetition of one variant, in order.

    Attributes
    ----------
    wall
        Elapsed time.
    cpu
        Processor time of all threads of this process; other programs' work is not in it, but the
        waiting of our own threads for each other is.
    """

    wall: list[float]
    cpu: list[float]

    @property
    def ms(self) -> float:
        """Median of the elapsed time, milliseconds."""
        return 1e3 * median(self.wall)

    @property
    def best_ms(self) -> float:
        """Shortest elapsed time, milliseconds."""
        return 1e3 * min(self.wall)

    @property
    def cpu_ms(self) -> float:
        """Median of the processor time, milliseconds."""
        return 1e3 * median(self.cpu)

    def ratio_to(self, other: Times) -> float:
        """Return the median over repetitions of this elapsed time over the other's."""
        return median(a / b for a, b in zip(self.wall, other.wall, strict=True))

    def cpu_ratio_to(self, other: Times) -> float:
        """Return the same of processor time, which other programs hardly change."""
        return median(a / b for a, b in zip(self.cpu, other.cpu, strict=True))


def interleave(variants: Mapping[str, Run], repetitions: int, warmup: int = 2) -> dict[str, Times]:
    """Run every variant once per repetition, in turn, after `warmup` untimed turns.

    The order is reversed in every second repetition, so that no variant always follows the same.
    """
    for _ in range(warmup):
        for run in variants.values():
            run()
    times: dict[str, Times] = {name: Times([], []) for name in variants}
    names = list(variants)
    gc.collect()
    for _ in range(repetitions):
        for name in names:
            wall, cpu = time.perf_counter(), time.process_time()
            variants[name]()
            times[name].wall.append(time.perf_counter() - wall)
            times[name].cpu.append(time.process_time() - cpu)
        names.reverse()
    return times
