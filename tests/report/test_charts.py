"""What the charts are made from."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.report import Run, read_run
from fedpeft.report.bars import final_accuracy
from fedpeft.report.curves import learning_curves
from fedpeft.report.lines import spread
from fedpeft.report.theme import PAGE, PICTURE, TRAFFIC_DARK, TRAFFIC_LIGHT, to_svg
from fedpeft.report.traffic import MAX_BINS, TRAFFIC, traffic, traffic_bins

from .folders import evaluation, result, traffic_round, write_run


def run_of(
    tmp_path: Path, rounds: int, *, first: int = 1, evaluated: list[tuple[float, float]] = ()
) -> Run:
    others = {
        "initial_download": 2e6,
        "resync": 3e6,
        "expansion_up": 1e6,
        "expansion_down": 3e6,
    }
    lines = [traffic_round(first + i, 1e6 * (i + 1), **others) for i in range(rounds)]
    metrics = [evaluation(i, ndcg, sent) for i, (ndcg, sent) in enumerate(evaluated)]
    return read_run(write_run(tmp_path / "r", result=result(), metrics=metrics, traffic=lines))


@given(
    positions=st.lists(st.floats(0, 300), min_size=1, max_size=12),
    gap=st.floats(1, 20),
)
def test_spread_keeps_order_distance_and_height(positions: list[float], gap: float) -> None:
    placed = spread(positions, gap, 300.0)
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    assert all(placed[b] - placed[a] >= gap - 1e-6 for a, b in pairwise(order))
    assert max(placed) <= 300 + 1e-6
    assert min(placed) >= -1e-6


def test_spread_leaves_alone_what_does_not_overlap() -> None:
    assert spread([200.0, 10.0, 100.0], 15, 300) == [200.0, 10.0, 100.0]
    assert spread([100.0, 101.0], 15, 300) == [100.0, 115.0]


def test_bins_hold_the_mean_of_their_rounds(tmp_path: Path) -> None:
    # 250 rounds in bins of 3: the first bin averages 1, 2 and 3 MB, the last holds round 250 alone
    bins = traffic_bins(run_of(tmp_path, 250))
    assert len(bins) == math.ceil(250 / 3) <= MAX_BINS
    assert bins[0] | {"start": 1, "end": 4} == bins[0]
    assert bins[0]["upload"] == pytest.approx(2.0)
    assert bins[-1]["upload"] == pytest.approx(250.0)
    assert [bins[0][kind] for kind in TRAFFIC[2:]] == pytest.approx([2.0, 3.0, 4.0])


def test_every_kind_of_bytes_has_a_colour_of_its_own() -> None:
    for colors in (PAGE.traffic, PICTURE.traffic, TRAFFIC_LIGHT, TRAFFIC_DARK):
        assert len(set(colors)) == len(colors) == len(TRAFFIC)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("rounds", [1, 99, 100, 101])
def test_every_round_is_in_one_bin(tmp_path: Path, rounds: int, first: int) -> None:
    run = run_of(tmp_path, rounds, first=first)
    bins = traffic_bins(run)
    assert len(bins) <= MAX_BINS
    assert all(a["end"] <= b["start"] for a, b in pairwise(bins))
    assert bins[0]["start"] == first
    assert bins[-1]["end"] > run.traffic[-1].round


def test_runs_without_lines_have_no_chart(tmp_path: Path) -> None:
    run = run_of(tmp_path, 0)
    assert traffic([run]) is None
    assert learning_curves([run], "rounds") is None
    assert "0.410" in to_svg(final_accuracy([run]))


def test_a_single_evaluation_without_bytes_is_drawn_against_rounds_only(tmp_path: Path) -> None:
    run = run_of(tmp_path, 1, evaluated=[(0.3, 0.0)])
    assert learning_curves([run], "megabytes") is None
    svg = to_svg(learning_curves([run], "rounds"))
    assert "0.300" in svg
    assert "Popularity" in svg


def test_flat_curves_are_drawn(tmp_path: Path) -> None:
    run = run_of(tmp_path, 1, evaluated=[(0.0, 5.0), (0.0, 5.0)])
    for against in ("rounds", "megabytes"):
        assert "NaN" not in to_svg(learning_curves([run], against))
