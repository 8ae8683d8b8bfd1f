"""The chart of all differences of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedpeft.report.sweeps import facets, read_sweep
from fedpeft.report.sweeps.cells import Facet
from fedpeft.report.sweeps.charts import MOST
from fedpeft.report.sweeps.overview import overview
from fedpeft.report.sweeps.page import write_sweep_report
from fedpeft.report.verdicts import MAIN

from .sweeps import OWN, STRATEGIES, write_sweep

BACKBONES = {"backbone": ["FedMF", "FedNCF"]}


def found_in(tmp_path: Path, **options: Any) -> list[Facet]:
    return facets(read_sweep(write_sweep(tmp_path / "s", **options)))


def values_of(chart: Any, mark: str) -> list[dict[str, Any]]:
    """Return the rows behind the layers with one kind of mark."""
    layers = chart.to_dict()["layer"]
    return [row for one in layers if one["mark"]["type"] == mark for row in one["data"]["values"]]


def test_a_dot_is_the_mean_difference_of_a_cell(tmp_path: Path) -> None:
    found = found_in(tmp_path, axes=BACKBONES)
    chart = overview(found, width=760)
    expected = [
        (name, facet.cells[number].differences[MAIN].mean)
        for facet in found
        for number, name in enumerate(STRATEGIES)
        if name != "Full"
    ]
    dots = values_of(chart, "point")
    assert [(dot["label"], dot["x"]) for dot in dots] == expected
    filled = {dot["label"] for dot in dots if dot["opacity"] == 1}
    assert filled == {"P-Hash"}  # LoRA is within noise
    heights = [dot["y"] for dot in dots]
    assert heights == sorted(set(heights))
    deviation = found[0].reference.metric(MAIN).std
    assert [band["x2"] for band in values_of(chart, "rect")] == pytest.approx([deviation] * 2)
    titles = [row["title"] for row in values_of(chart, "text")]
    assert titles == [["toy", "FedMF"], ["toy", "FedNCF"]]


def test_one_seed_is_hollow_and_has_no_band(tmp_path: Path) -> None:
    chart = overview(found_in(tmp_path, axes=BACKBONES, seeds=(0,)), width=336)
    assert {dot["opacity"] for dot in values_of(chart, "point")} == {0}
    assert {band["x2"] for band in values_of(chart, "rect")} == {0}


def test_a_far_difference_stands_at_the_edge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, level in enumerate((0.421, 0.419, 0.422, 0.418)):
        monkeypatch.setitem(STRATEGIES, f"near {number}", (level, 1000.0))
    for name, level in (("worse", 0.12), ("better", 0.82)):
        monkeypatch.setitem(STRATEGIES, name, (level, 1000.0))
    monkeypatch.delitem(STRATEGIES, "P-Hash")
    for name in STRATEGIES:
        monkeypatch.setitem(OWN, name, (0.0, 0.0, 0.0))
    chart = overview(found_in(tmp_path, axes=BACKBONES), width=760)
    low, high = chart.to_dict()["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert low == -high
    told = {row["label"]: row for row in values_of(chart, "text") if "label" in row}
    assert {name: (row["x"], row["text"]) for name, row in told.items()} == {
        "worse": (low, "\N{LEFTWARDS ARROW} -0.030"),
        "better": (high, "+0.040 \N{RIGHTWARDS ARROW}"),
    }
    assert {dot["label"] for dot in values_of(chart, "point")} == STRATEGIES.keys() - {
        "Full",
        *told,
    }


def test_what_is_asked_for_is_shown_in_its_order(tmp_path: Path) -> None:
    found = found_in(tmp_path, axes=BACKBONES)
    chart = overview(found, width=760, only=("P-Hash", "P-LoRA", "unknown"))
    legend = chart.to_dict()["layer"][3]["encoding"]["color"]["scale"]["domain"]
    assert legend == ["P-Hash", "P-LoRA"]
    assert overview(found, width=760, only=("unknown",)) is None


def test_one_row_or_too_many_names_are_not_drawn(tmp_path: Path) -> None:
    assert overview(found_in(tmp_path / "one"), width=760) is None
    many = {**BACKBONES, "rank": [str(rank) for rank in range(1, MOST)]}
    assert overview(found_in(tmp_path / "many", axes=many), width=760) is None
    alone = found_in(tmp_path / "alone", axes=BACKBONES, compare=False)
    assert overview(alone, width=760) is None


def test_the_page_has_it_before_the_tables(tmp_path: Path) -> None:
    heading = "Differences to strategy = Full"
    write_sweep_report(read_sweep(write_sweep(tmp_path / "s", axes=BACKBONES)), tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert page.index(heading) < page.index("<table>")
    write_sweep_report(read_sweep(write_sweep(tmp_path / "t")), tmp_path / "b.html")
    assert heading not in (tmp_path / "b.html").read_text(encoding="utf-8")
