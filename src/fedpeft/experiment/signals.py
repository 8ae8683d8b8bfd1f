"""Stopping a run between two rounds instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from fedpeft.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Within a `with` block, notes SIGINT and SIGTERM; `check` then raises `Interrupted`.

    A second signal takes its usual course, for when the round in progress does not end.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
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
