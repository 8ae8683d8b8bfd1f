"""The estimate of the time left."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from fedpeft.sweep.estimate import Estimate


def process(group: str, round_: int, *, first: int = 0, seconds: float, before: float = 0.0) -> Any:
    """Return what the estimate looks at: `seconds` of training after `before` of preparation."""
    now = time.monotonic()
    return SimpleNamespace(
        job=SimpleNamespace(group=group),
        round=round_,
        rounds=100,
        first=first,
        began=now - seconds - before,
        trained_from=now - seconds,
    )


def pending(*groups: str) -> list[Any]:
    return [SimpleNamespace(group=group) for group in groups]


def test_nothing_known() -> None:
    estimate = Estimate()
    assert estimate.left([process("a", 0, seconds=5)], pending("a")) is None
    assert estimate.left([], pending("a")) is None


def test_pace_of_what_runs() -> None:
    half = process("a", 50, seconds=10, before=4)  # 4 + 20 for all of it, half of it to go
    assert Estimate().left([half], []) == pytest.approx(12, rel=0.01)
    resumed = process("a", 75, first=50, seconds=5)
    assert Estimate().left([resumed], []) == pytest.approx(5, rel=0.01)


def test_a_run_that_had_only_its_last_evaluation_left_tells_nothing() -> None:
    estimate = Estimate()
    estimate.learn(process("a", 100, first=100, seconds=20))
    assert estimate.left([process("a", 0, seconds=0)], []) is None


def test_groups_and_processes() -> None:
    estimate = Estimate()
    estimate.learn(process("slow", 100, seconds=100))
    estimate.learn(process("fast", 100, seconds=10))
    running = [process("fast", 0, seconds=0), process("fast", 0, seconds=0)]
    # two run, 10 s each; 100, 10 and (unknown) 55 wait, shared by two processes
    assert estimate.left(running, pending("slow", "fast", "new")) == pytest.approx(92.5, rel=0.01)
    # one process cannot be done before its own end
    alone = [process("slow", 0, seconds=0), process("fast", 50, seconds=5)]
    assert estimate.left(alone, []) == pytest.approx(100, rel=0.01)
