"""What the charts are made from."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.report import Run, read_run
from fedpeft.report.bars import final_accuracy
from fedpeft.report.curves import learning_curves
from fedpeft.report.lines import ROUNDS, Line, overlay, spread
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


def curve(*heights: float) -> Line:
    return Line("curve", "#000", [1, 0], list(enumerate(heights)), heights[-1])


def rule(label: str, level: float) -> Line:
    return Line(label, "#777", [4, 4], [], level)


def drawn(lines: list[Line]) -> tuple[list[float], list[str], list[float]]:
    """Return the domain of a chart's height, its labels from the top down, and its rules."""
    layers = overlay(lines, ROUNDS, 720, 320).to_dict()["layer"]
    values = [(layer, value) for layer in layers for value in layer["data"]["values"]]
    labels = sorted((-v["y"], v["label"]) for _, v in values if "label" in v)
    dashed = [v["y"] for at, v in values if at["mark"].get("strokeDash") == [4, 4] and "x2" in v]
    return layers[0]["encoding"]["y"]["scale"]["domain"], [text for _, text in labels], dashed


@settings(deadline=None, max_examples=20)  # a chart is checked against its schema
@given(
    heights=st.lists(st.floats(0, 1), min_size=2, max_size=20),
    levels=st.lists(st.floats(0, 1), max_size=4),
)
def test_rules_never_squeeze_a_curve(heights: list[float], levels: list[float]) -> None:
    rules = [rule(f"rule {i}", level) for i, level in enumerate(levels)]
    (low, high), labels, dashed = drawn([curve(*heights), *rules])
    rise = max(heights) - min(heights)
    assert high - low <= 3.4 * max(rise, 0.02) + 1e-9  # and a little air
    assert low <= min(heights) <= max(heights) <= high
    assert len(labels) == 1 + len(rules)
    assert all(low <= level <= high for level in dashed)
    told = [text for text in labels if text[0] in "↑↓"]
    assert len(told) + len(dashed) == len(rules)
    assert all(f"{r.level:.3f}  {r.label}" in " ".join(labels) for r in rules)


def test_a_far_rule_stands_at_the_edge_it_lies_behind() -> None:
    curves = [curve(0.40, 0.42)]
    rules = [rule("pooled", 0.80), rule("near", 0.43), rule("oracle", 0.99), rule("random", 0.05)]
    (low, high), labels, dashed = drawn([*curves, *rules])
    assert labels == [
        "↑ 0.990  oracle",
        "↑ 0.800  pooled",
        "0.430  near",
        "0.420  curve",
        "↓ 0.050  random",
    ]
    assert dashed == [0.43]
    assert 0.39 < low < 0.40
    assert 0.43 < high < 0.44
