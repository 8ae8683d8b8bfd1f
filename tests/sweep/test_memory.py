"""The memory budget decides what starts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedpeft.sweep.folder import available_memory
from fedpeft.sweep.memory import LEAST, Budget

GROUPS = st.sampled_from(["small", "middle", "large", "huge"])
PEAKS = {"small": 1, "middle": 4, "large": 9, "huge": 50}


def test_first_that_fits() -> None:
    budget = Budget(12, 4, PEAKS)
    assert budget.next(["large", "small"], ["middle"]) == 1
    assert budget.next(["large"], ["middle"]) is None
    assert budget.next(["large"], ["small", "small"]) == 0
    assert budget.next(["small"], ["huge"]) is None


def test_alone_anything_may_run() -> None:
    assert Budget(12, 4, PEAKS).next(["huge", "small"], []) == 0


def test_never_more_processes_than_jobs() -> None:
    assert Budget(1000, 2, PEAKS).next(["small"], ["small", "small"]) is None


def test_unknown_groups() -> None:
    assert Budget(12 * LEAST, 3, {}).predict("new") == 4 * LEAST  # an equal share: 3 are to run
    budget = Budget(12, 3, {})
    assert budget.predict("new") == LEAST
    assert budget.next(["new"], ["new"]) is None  # a budget that no two fit is kept at once
    budget.learn("large", 9)
    assert budget.predict("new") == 9  # as much as the largest that was seen
    budget.learn("large", 5)
    assert budget.predict("large") == 9


@given(
    st.integers(1, 30), st.integers(1, 4), st.lists(GROUPS, max_size=8), st.lists(st.integers(0, 3))
)
def test_all_run_and_none_exceeds(
    total: int, jobs: int, pending: list[str], ends: list[int]
) -> None:
    """Whatever ends when, everything runs once, and two together never exceed the budget."""
    budget, running, ran = Budget(total, jobs, PEAKS), [], []
    wanted, moves = sorted(pending), iter(ends)
    while pending or running:
        while (at := budget.next(pending, running)) is not None:
            running.append(pending.pop(at))
            assert len(running) <= jobs
            assert len(running) == 1 or sum(PEAKS[group] for group in running) <= total
        assert running
        ran.append(running.pop(next(moves, 0) % len(running)))
    assert sorted(ran) == wanted


def test_available_memory() -> None:
    assert 2**26 < available_memory() < 2**50
