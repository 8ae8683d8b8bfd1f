"""What the command line prints: results on standard output, progress on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from fedpeft.evaluation import Report
from fedpeft.experiment import presets
from fedpeft.foreign import printable
from fedpeft.simulation import RoundResult, Simulation

PRESETS = f"{', '.join(presets.names())}."
"""The help of `--preset`."""

_errors = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print a line on standard error; paths stay whole, however narrow the terminal."""
    print(printable(text), file=sys.stderr, flush=True)


def tell(text: str) -> None:
    """Print a line on standard output."""
    print(printable(text))


def cell(text: str) -> str:
    """Return text of others as a cell or title of a table: no markup, nothing to act on."""
    return escape(printable(text))


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(value, indent=2, sort_keys=True, allow_nan=False))


@contextmanager
def replay_bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield what shows how many rounds are replayed: a bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, rounds: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, MofNCompleteColumn(), TimeRemainingColumn(), console=_errors) as bar:
        task = bar.add_task("replaying", total=None)
        yield lambda done, rounds: bar.update(task, completed=done, total=rounds)


class LineWatcher:
    """Tells how a run goes in plain lines, for logs, pipes and `--json`."""

    def __init__(self) -> None:
        self._simulation: Simulation | None = None
        self._began = time.perf_counter()
        self._first = 0

    def stage(self, text: str) -> None:
        """Print what begins."""
        say(text)

    def started(self, simulation: Simulation) -> None:
        """Print which backend was chosen, and where training begins."""
        self._simulation = simulation
        self._began, self._first = time.perf_counter(), simulation.round
        self.stage(describe_start(simulation))

    def round(self, result: RoundResult) -> None:
        """Say nothing: a line per round would drown the rest."""

    def evaluated(self, round_number: int, report: Report) -> None:
        """Print the metrics, the rate and the estimate."""
        assert self._simulation is not None
        rounds = self._simulation.training.rounds
        rate = (round_number - self._first) / (time.perf_counter() - self._began)
        self.stage(
            f"round {round_number}/{rounds}  {describe_report(report)}  "
            f"{self._simulation.traffic.bytes_per_client / 1e6:.2f} MB/client  "
            f"{rate:.1f} rounds/s  {(rounds - round_number) / rate:.0f} s left"
            f"{dropped(self._simulation)}"
        )

    def note(self, text: str) -> None:
        """Print it."""
        say(text)


def dropped(simulation: Simulation) -> str:
    """Return what a progress line says of uploads that the server dropped; nothing if none."""
    count = simulation.traffic.totals.rejected
    return f"  {count:,} uploads dropped" if count else ""


class BarWatcher:
    """Shows a progress bar with a rate, an estimate and the latest validation metric."""

    def __init__(self, label: str = "training") -> None:
        self._label = label
        self._simulation: Simulation | None = None
        # all of it must fit in 80 characters; in fewer the bar is cut, then the description
        bar = max(4, min(16, _errors.width - 64))
        self._progress = Progress(
            SpinnerColumn(table_column=Column(no_wrap=True)),
            TextColumn(
                "{task.description}", markup=False, table_column=Column(overflow="ellipsis")
            ),
            BarColumn(bar_width=bar, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[metric]}"),
            console=_errors,
        )
        self._task = self._progress.add_task(label, total=None, rate="", metric="")

    def __enter__(self) -> BarWatcher:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the terminal may have been closed
            self._progress.stop()

    def stage(self, text: str) -> None:
        """Show what begins."""
        self._progress.update(self._task, description=f"{self._label}: {printable(text)}")

    def started(self, simulation: Simulation) -> None:
        """Print which backend was chosen and start the bar."""
        self._simulation = simulation
        self._progress.console.print(describe_start(simulation))
        self._progress.reset(self._task, total=simulation.training.rounds, rate="", metric="")
        self._progress.update(self._task, description=self._label, completed=simulation.round)

    def round(self, result: RoundResult) -> None:
        """Advance the bar."""
        speed = self._progress.tasks[0].speed
        rate = f"{speed:.0f}/s" if speed else ""
        self._progress.update(self._task, advance=1, rate=rate)

    def evaluated(self, round_number: int, report: Report) -> None:
        """Show the metrics."""
        told = "" if self._simulation is None else dropped(self._simulation)
        metric = f"NDCG@10 {report.sampled['ndcg@10']:.4f}{told}"
        self._progress.update(self._task, metric=metric)

    def note(self, text: str) -> None:
        """Print it above the bar, where it stays."""
        self._progress.console.print(printable(text), markup=False)


def describe_start(simulation: Simulation) -> str:
    """Return a line on how training runs."""
    where = f"from round {simulation.round} " if simulation.round else ""
    return (
        f"training {where}on {simulation.replica.device} with the {simulation.backend} backend, "
        f"{simulation.sampler.size:,} of {simulation.traffic.n_clients:,} clients a round"
    )


def describe_report(report: Report) -> str:
    """Return the headline metrics of an evaluation."""
    sampled, full = report.sampled, report.full
    first = f"NDCG@10 full {full['ndcg@10']:.4f}, " if full else ""
    told = f"NDCG@10 sampled {sampled['ndcg@10']:.4f}, HR@10 sampled {sampled['hr@10']:.4f}"
    return f"{report.part}: {first}{told}"
