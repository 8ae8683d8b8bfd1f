"""The sweep's side of one worker process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from fedpeft.simulation import RunOptions
from fedpeft.sweep.folder import Job, Outcome, SweepFolder


@dataclass(frozen=True)
class How:
    """How runs execute; nothing here changes what they compute.

    Attributes
    ----------
    checkpoint_every
        Rounds between checkpoints.
    """

    device: str = "cpu"
    checkpoint_every: int = 100

    def check(self) -> None:
        """Raise `ConfigError` when the device is unknown or absent."""
        RunOptions(device=self.device).torch_device()


class Process:
    """A run in a process of its own, with one computing thread.

    Attributes
    ----------
    round, rounds, metric, full, stage
        What it said last; `metric` is NDCG@10 against sampled negatives, `full` against all items.
    """

    def __init__(self, job: Job, folder: SweepFolder, how: How, lock: int) -> None:
        self.job = job
        self.round, self.rounds = 0, 0
        self.metric: float | None = None
        self.full: float | None = None
        self.stage = "starting"
        self.began = time.monotonic()
        self.first = 0
        """Round that this attempt began with."""
        self.trained_from = self.began
        """When training began, after the data were read and the items pretrained."""
        self._reason: str | None = None
        self._rest = b""
        folder.logs.mkdir(parents=True, exist_ok=True)
        with (folder.logs / f"{job.folder.name}.log").open("a") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "fedpeft.sweep.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={
                    # freed tensors' pages are used again instead of faulted in anew (glibc)
                    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
                    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                    "MKL_NUM_THREADS": "1",
                },
                pass_fds=[lock],
                process_group=0,  # a Ctrl-C is for the sweep, which passes it on once
            )
        order = {
            "config": job.config.to_file(),
            "folder": str(job.folder),
            "device": how.device,
            "checkpoint_every": how.checkpoint_every,
        }
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        try:
            self._popen.stdin.write(json.dumps(order).encode() + b"\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            pass  # it died at once; `wait` tells
        self.handle = self._popen.stdout.fileno()

    def read(self) -> bool:
        """Take what it said since; return False when it has ended."""
        found = os.read(self.handle, 65536)
        *lines, self._rest = (self._rest + found).split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        return bool(found)

    def _take(self, message: dict[str, Any]) -> None:
        if "reason" in message:
            self._reason = message["reason"]
        if "stage" in message:
            self.stage = message["stage"]
        if "round" in message:
            if not self.rounds:
                self.first = message["round"]
                self.trained_from = time.monotonic()
            self.stage = ""
            self.round, self.rounds = message["round"], message["rounds"]
            self.metric = message.get("metric", self.metric)
            self.full = message.get("full", self.full)

    def stop(self) -> None:
        """Ask it to write a checkpoint and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._popen.returncode is None:
            os.kill(self._popen.pid, number)

    def wait(self) -> Outcome:
        """Wait until it has ended; return how."""
        _, status, usage = os.wait4(self._popen.pid, 0)
        code = self._popen.returncode = os.waitstatus_to_exitcode(status)
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()
        # kilobytes, but bytes on macOS
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        reason = self._reason
        if code and reason is None:
            reason = f"its process ended with exit code {code}; see its log"
            if code < 0:
                reason = f"its process was ended by {signal.Signals(-code).name}"
            if code == -signal.SIGKILL:
                reason += ", perhaps for want of memory"
        return Outcome(peak, reason)
