"""How long a sweep will still take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import mean

from fedpeft.sweep.folder import Job
from fedpeft.sweep.process import Process

_LEAST = 0.02  # share of a run that must be done before its pace tells anything


class Estimate:
    """Learns how long runs take from those that ended and from those under way."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def learn(self, process: Process) -> None:
        """Take a finished run into account, unless only its last evaluation was left to do."""
        if _share(process) >= _LEAST:
            self._seconds.setdefault(process.job.group, []).append(_whole(process))

    def left(
        self, running: Sequence[Process], pending: Sequence[Job], more: int = 0
    ) -> float | None:
        """Return the seconds left, or None while nothing is known.

        Parameters
        ----------
        more
            Runs that are still to come, of which no job is known.
        """
        known = {group: list(seconds) for group, seconds in self._seconds.items()}
        for process in running:
            if _share(process) >= _LEAST:
                known.setdefault(process.job.group, []).append(_whole(process))
        if not known or not running:
            return None
        typical = {group: mean(seconds) for group, seconds in known.items()}
        fallback = mean(typical.values())
        rest = [
            max(0.0, typical.get(p.job.group, fallback) * (1 - p.round / max(1, p.rounds)))
            for p in running
        ]
        waiting = sum(typical.get(job.group, fallback) for job in pending) + more * fallback
        return max([*rest, (sum(rest) + waiting) / len(running)])


def _share(process: Process) -> float:
    """Return the share of the run that this process has trained."""
    return (process.round - process.first) / max(1, process.rounds)


def _whole(process: Process) -> float:
    """Return the seconds that the whole run would take at this process's pace."""
    before = process.trained_from - process.began
    return before + (time.monotonic() - process.trained_from) / max(_share(process), _LEAST)
