"""Stopping a run between two rounds instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from fedpeft.errors import Interrupted

_SIGNALS = tuple(  # the last one, that a terminal was closed, is not everywhere
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class StopRequest:
    """Within a `with` block, notes SIGINT, SIGTERM and SIGHUP; `check` then raises `Interrupted`.

    A second signal takes its usual course, for when the round in progress does not end.  A SIGHUP
    that is ignored, as under `nohup`, stays so.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            self._before = {
                number: signal.signal(number, self._note)
                for number in _SIGNALS
                if number.name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN
            }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._received = signal.Signals(number)
        signal.signal(number, self._before[number])

    def check(self) -> None:
        """Raise `Interrupted` if a signal came."""
        if self._received is not None:
            raise Interrupted(f"stopped by {self._received.name}")
