"""The process of one run of a sweep: ``python -m fedpeft.sweep.worker``.

It reads one line of JSON from standard input and writes lines of JSON to standard output.  Its
standard input stays open as long as the sweep lives; when it closes, the process ends at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from fedpeft.errors import FedpeftError, Interrupted
from fedpeft.evaluation import Report
from fedpeft.experiment import RunFolder, Schedule, resolve, resume, start
from fedpeft.memory import keep_freed, ran_out
from fedpeft.simulation import RoundResult, RunOptions, Simulation


class Messenger:
    """Tells the sweep how the run goes, as a run's watcher."""

    def __init__(self, handle: int) -> None:
        self._out = os.fdopen(handle, "w", encoding="utf-8", buffering=1)
        self._rounds = 0

    def send(self, **message: Any) -> None:
        """Write one message."""
        self._out.write(json.dumps(message) + "\n")

    def stage(self, text: str) -> None:
        """Pass on what begins."""
        self.send(stage=text)

    def started(self, simulation: Simulation) -> None:
        """Pass on where training begins."""
        self._rounds = simulation.training.rounds
        self.send(round=simulation.round, rounds=self._rounds)

    def round(self, result: RoundResult) -> None:
        """Pass on every hundredth part of the run."""
        done = result.entry.round + 1
        if done % max(1, self._rounds // 100) == 0:
            self.send(round=done, rounds=self._rounds)

    def evaluated(self, round_number: int, report: Report) -> None:
        """Pass on the metric, against sampled negatives and, where it is known, all items."""
        metric, full = report.sampled["ndcg@10"], report.full.get("ndcg@10")
        self.send(round=round_number, rounds=self._rounds, metric=metric, full=full)

    def note(self, text: str) -> None:
        """Leave it in the run's log."""
        with suppress(OSError):  # a full disk costs a line of the log, not the run
            print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Make one run, or go on with it."""
    # until rounds begin, it ends at once when asked to, and tidies up
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Interrupted.exit_code))
    order = json.loads(_read_line(0))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    messenger = Messenger(os.dup(1))
    os.dup2(2, 1)  # what libraries print is no message
    torch.set_num_threads(1)
    keep_freed()
    folder = Path(order["folder"])
    try:
        schedule = Schedule(order["checkpoint_every"])
        asked = resolve(order["config"])
        options = RunOptions(device=order["device"])
        if (folder / "config.toml").exists():
            # the folder's name tells settings apart, not places
            resume(folder, options, messenger, schedule, config=asked)
        else:
            RunFolder(folder).sweep()
            start(asked, folder, options, messenger, schedule)
    except FedpeftError as error:
        messenger.send(reason=" ".join(str(error).split()))
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, which may be that of the log too
        where = f"{error.filename}: " if error.filename else ""
        messenger.send(reason=f"{where}{error.strerror or error}")
        sys.exit(FedpeftError.exit_code)
    except Exception as error:  # whatever it was, the other cells go on
        with suppress(OSError):
            traceback.print_exc()
        said = " ".join(str(error).split())[:200]
        messenger.send(
            reason="out of memory" if ran_out(error) else f"{type(error).__name__}: {said}"
        )
        sys.exit(FedpeftError.exit_code)


def _read_line(handle: int) -> bytes:
    """Read up to a line's end without `sys.stdin`, which a thread must not hold at exit."""
    line = b""
    while not line.endswith(b"\n") and (found := os.read(handle, 65536)):
        line += found
    return line


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(FedpeftError.exit_code)


if __name__ == "__main__":
    main()
