"""Which run may start beside those that run, within a memory budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

LEAST = 1 << 29
"""Bytes that a run takes at least, as far as is known before the first one has ended."""


class Budget:
    """Predicts the memory of runs from that of finished ones like them.

    Parameters
    ----------
    total
        Bytes that all processes together may take.
    jobs
        Processes at once, at most.
    peaks
        Largest measured memory of each group of runs, bytes.
    """

    def __init__(self, total: int, jobs: int, peaks: Mapping[str, int]) -> None:
        self.total, self.jobs = total, jobs
        self._peaks = dict(peaks)

    def learn(self, group: str, peak: int) -> None:
        """Take the measured memory of a run into account."""
        self._peaks[group] = max(peak, self._peaks.get(group, 0))

    def predict(self, group: str) -> float:
        """Return the expected peak of a run, bytes.

        Of a group that was never measured, it is the largest peak of all groups, and before
        anything was measured an equal share of the budget, but no less than `LEAST`.
        """
        if group in self._peaks:
            return self._peaks[group]
        return max(self._peaks.values(), default=max(LEAST, self.total / self.jobs))

    def next(self, pending: Sequence[str], running: Sequence[str]) -> int | None:
        """Return the position of the first pending group that fits, or None.

        Where nothing runs, the first starts whatever it needs.
        """
        if not pending or len(running) >= self.jobs:
            return None
        if not running:
            return 0
        free = self.total - sum(map(self.predict, running))
        return next((i for i, group in enumerate(pending) if self.predict(group) <= free), None)
