"""Runs jobs in parallel processes until none is left."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from fedpeft.experiment.signals import StopRequest
from fedpeft.sweep.folder import Job, Outcome, SweepFolder
from fedpeft.sweep.memory import Budget
from fedpeft.sweep.process import How, Process
from fedpeft.sweep.study import Found

_TICK = 0.5  # seconds between looks at signals and at the clock

Follow = Callable[[], Iterable[Job]]
"""Told that a job ended; returns further jobs."""


class SweepWatcher(Protocol):
    """Someone who is told how a sweep goes."""

    def began(self, process: Process) -> None:
        """A run was started or resumed."""
        ...

    def ended(self, process: Process, outcome: Outcome) -> None:
        """A run ended, well or not."""
        ...

    def tick(self, running: Sequence[Process], pending: Sequence[Job]) -> None:
        """Time passed."""
        ...

    def searched(self, left: int, found: Sequence[Found], until: float | None) -> None:
        """A search knows this much, and may ask for so many more runs before a time."""
        ...


class Scheduler:
    """Starts processes while memory and cores last.

    Parameters
    ----------
    lock
        File descriptor of the sweep's lock, which the processes inherit.
    """

    def __init__(
        self,
        folder: SweepFolder,
        budget: Budget,
        how: How,
        watcher: SweepWatcher,
        lock: int,
    ) -> None:
        self._folder, self._budget, self._how = folder, budget, how
        self._watcher, self._lock = watcher, lock
        self._running: list[Process] = []
        self._selector = selectors.DefaultSelector()

    def run(self, jobs: Iterable[Job], follow: Follow) -> None:
        """Run all jobs, and those that follow from them.

        Raises
        ------
        Interrupted
            If SIGINT, SIGTERM or SIGHUP asked for an end; every process wrote a checkpoint first.
        """
        pending = list(jobs)
        try:
            with StopRequest() as stop:
                self._start(pending)
                while self._running:
                    for process in self._ended():
                        pending += self._finish(process, follow)
                    self._start(pending)
                    self._watcher.tick(self._running, pending)
                    stop.check()
        finally:
            self._stop()

    def _start(self, pending: list[Job]) -> None:
        while True:
            groups = [job.group for job in pending]
            at = self._budget.next(groups, [p.job.group for p in self._running])
            if at is None:
                return
            process = Process(pending.pop(at), self._folder, self._how, self._lock)
            self._running.append(process)
            self._selector.register(process.handle, selectors.EVENT_READ, process)
            self._watcher.began(process)

    def _ended(self) -> list[Process]:
        """Wait a tick for messages; return the processes that ended."""
        found = [key.data for key, _ in self._selector.select(_TICK)]
        return [process for process in found if not process.read()]

    def _finish(self, process: Process, follow: Follow) -> list[Job]:
        self._selector.unregister(process.handle)
        self._running.remove(process)
        outcome = process.wait()
        self._budget.learn(process.job.group, outcome.peak_memory)
        self._folder.record(process.job, outcome)
        self._watcher.ended(process, outcome)
        return list(follow())

    def _stop(self) -> None:
        """End what still runs; each process writes a checkpoint after its round in progress."""
        try:
            for process in self._running:
                process.stop()
            ended = [(process, process.wait()) for process in self._running]
            for process, outcome in ended:
                if process.metric is not None:  # it has evaluated, so its memory is known
                    self._folder.record(process.job, Outcome(outcome.peak_memory))
        finally:
            for process in self._running:
                process.kill()
            self._running.clear()
