"""How `fedpeft sweep` shows its progress: a live view on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from fedpeft.cli.console import cell, say
from fedpeft.foreign import printable
from fedpeft.sweep.estimate import Estimate
from fedpeft.sweep.folder import Job, Outcome
from fedpeft.sweep.process import Process
from fedpeft.sweep.scheduler import SweepWatcher
from fedpeft.sweep.study import Found


@contextmanager
def watching(as_json: bool) -> Iterator[SweepWatcher]:
    """Yield the watcher that fits where standard error goes."""
    if as_json or not sys.stderr.isatty():
        yield Lines()
        return
    console = Console(stderr=True, highlight=False)
    with Live(console=console, refresh_per_second=4) as live:
        yield View(live)


class _Counter:
    """Counts what ended, and estimates what is left."""

    def __init__(self) -> None:
        self.done, self.total = 0, 0
        self.left: float | None = None
        self._estimate = Estimate()
        self._began = time.monotonic()
        self._more = 0
        self._found: Sequence[Found] = ()
        self._until: float | None = None

    def count(self, process: Process, outcome: Outcome) -> None:
        self.done += 1
        if outcome.reason is None:
            self._estimate.learn(process)

    def look(self, running: Sequence[Process], pending: Sequence[Job]) -> None:
        more = 0 if self._until is not None else self._more
        self.total = self.done + len(running) + len(pending) + more
        self.left = self._estimate.left(running, pending, more)
        if self._until is not None:
            self.left = max(self.left or 0.0, self._until - time.monotonic())

    def know(self, more: int, found: Sequence[Found], until: float | None) -> None:
        self._more, self._found, self._until = more, found, until

    @property
    def pace(self) -> str:
        """How long a run takes, several at once taken into account; nothing while unknown."""
        if not self.done:
            return ""
        return f"{duration((time.monotonic() - self._began) / self.done)} a run"

    @property
    def best(self) -> str:
        """The best value of a search, and its gain on the first trial; nothing without one."""
        if len(self._found) != 1:
            return ""
        best, first = self._found[0].best, self._found[0].first
        gain = f" ({best.value - first.value:+.4f})" if first else ""
        return f"best {best.value:.4f}{gain}"


class Lines:
    """A line for each run that starts or ends."""

    def __init__(self) -> None:
        self._counter = _Counter()

    def began(self, process: Process) -> None:
        """Print what started."""
        say(f"started  {process.job.name}")

    def ended(self, process: Process, outcome: Outcome) -> None:
        """Print what ended, how, and what is left."""
        self._counter.count(process, outcome)
        counter = self._counter
        left = "" if counter.left is None else f", about {duration(counter.left)} left"
        best = f", {counter.best}" if counter.best else ""
        say(f"{describe(process, outcome)} [{counter.done}/{counter.total}{left}{best}]")

    def tick(self, running: Sequence[Process], pending: Sequence[Job]) -> None:
        """Keep the estimate up to date."""
        self._counter.look(running, pending)

    def searched(self, left: int, found: Sequence[Found], until: float | None) -> None:
        """Keep what a search knows."""
        self._counter.know(left, found, until)


class View:
    """A bar over all runs and a row for each that is under way."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._counter = _Counter()
        self._bar = Progress(
            TextColumn("sweep"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[known]}"),
        )
        self._task = self._bar.add_task("sweep", total=None, known="")

    def began(self, process: Process) -> None:
        """Say nothing: the rows show it."""

    def ended(self, process: Process, outcome: Outcome) -> None:
        """Print what ended above the bar."""
        self._counter.count(process, outcome)
        self._live.console.print(cell(describe(process, outcome)))

    def tick(self, running: Sequence[Process], pending: Sequence[Job]) -> None:
        """Draw bar and rows anew."""
        counter = self._counter
        counter.look(running, pending)
        left = "" if counter.left is None else f"about {duration(counter.left)} left"
        known = ", ".join(text for text in (counter.pace, left, counter.best) if text)
        self._bar.update(self._task, total=counter.total, completed=counter.done, known=known)
        rows = Table.grid(padding=(0, 2))
        rows.add_column()  # only names give way where a terminal is narrow
        rows.add_column(no_wrap=True)
        rows.add_column(no_wrap=True)
        for process in running:
            metric = _metric(process)
            where = process.stage or f"{process.round}/{process.rounds}"
            name = Text(printable(process.job.name), no_wrap=True, overflow="ellipsis")
            rows.add_row(name, cell(where), metric)
        self._live.update(Group(self._bar, rows))

    def searched(self, left: int, found: Sequence[Found], until: float | None) -> None:
        """Keep what a search knows."""
        self._counter.know(left, found, until)


def describe(process: Process, outcome: Outcome) -> str:
    """Return a line on how a run ended."""
    if outcome.reason is not None:
        return f"failed   {process.job.name}: {outcome.reason}"
    took = duration(time.monotonic() - process.began)
    metric = f"validation {known}, " if (known := _metric(process)) else ""
    return f"finished {process.job.name}: {metric}{took}, {outcome.peak_memory / 1e9:.2f} GB"


def _metric(process: Process) -> str:
    """Return what a run's last evaluation found; nothing before it."""
    if process.metric is None:
        return ""
    full = "" if process.full is None else f" (full ranking {process.full:.4f})"
    return f"NDCG@10 {process.metric:.4f}{full}"


def duration(seconds: float) -> str:
    """Return a time in the two units that matter."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
