"""The full table stopped at an adapter's bytes, read off its learning curve."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.records import SweepFacts
from fedpeft.report.runs import Point
from fedpeft.report.sweeps import Sweep, facets, read_records, read_sweep, write_records
from fedpeft.report.sweeps.page import write_sweep_report
from fedpeft.report.sweeps.stopped import stopped
from fedpeft.report.verdicts import CURVE, MAIN, METRICS, verdict

from .sweeps import OWN, STRATEGIES, write_sweep

NAME = "Full, int8"
PAYLOAD = 120_000.0  # a run costs 12 MB, evaluated at each fifth; P-LoRA costs 5.98 MB


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.setitem(STRATEGIES, NAME, (0.42, PAYLOAD))
    monkeypatch.setitem(OWN, NAME, (0.0, 0.0, 0.0))
    return read_sweep(write_sweep(tmp_path / "s"))


def changed(sweep: Sweep, strategy: str, **changes: Any) -> Sweep:
    """Return a sweep in which the rows of one strategy have changes."""
    changes = {key.replace("_", "."): value for key, value in changes.items()}
    rows = [{**r, **changes} if r["strategy"] == strategy else r for r in sweep.rows]
    return replace(sweep, rows=rows)


def page(sweep: Sweep, tmp_path: Path) -> str:
    write_sweep_report(sweep, tmp_path / "r.html")
    return re.sub(r"<[^>]*>", " ", (tmp_path / "r.html").read_text(encoding="utf-8"))


def test_it_is_read_at_the_last_evaluation_that_had_not_cost_more(sweep: Sweep) -> None:
    [facet] = facets(sweep)
    found, missing = stopped(facet)
    assert not missing
    assert [(facet.name(each.adapter), facet.name(each.full)) for each in found] == [
        ("P-LoRA", NAME),
        ("P-Hash", NAME),
    ]
    lora = found[0]
    assert {point.round for point in lora.points.values()} == {120}
    assert (lora.rounds, lora.total_bytes) == (120, pytest.approx(0.4 * 12e6))
    assert lora.total_bytes <= lora.adapter.total_bytes
    mine, its = lora.scores[CURVE]
    assert its.mean == pytest.approx(0.42 - 3 * 0.02)
    expected = [0.415 + own - 0.36 for own in OWN["P-LoRA"]]
    assert mine.mean - its.mean == pytest.approx(sum(expected) / 3)
    assert list(lora.differences) == list(METRICS)
    assert verdict(lora.differences[MAIN]) == "won"
    assert lora.differences[MAIN].over == "seeds"


@given(
    paid=st.floats(1, 1e9),
    sent=st.lists(st.floats(0, 1e9), min_size=1, max_size=8).map(sorted),
)
def test_never_more_bytes_than_the_adapter(paid: float, sent: list[float]) -> None:
    curve = [Point(i, count, 0.1, 0.2) for i, count in enumerate(sent, start=1)]
    common = {"seed": 0, "status": "done", "split": "s", "setup.backbone": "fedmf"}
    common |= {"setup.dim": 32, "setup.encoding": "int8", "validation.sampled.ndcg@10": 0.3}
    rows = [
        {**common, "strategy": "Full", "setup.adapter": "full", "curve": curve},
        {**common, "strategy": "LoRA", "setup.adapter": "lora", "curve": []}
        | {"bytes.total_per_client_mean": paid},
    ]
    facts = {"name": "n", "axes": {"strategy": ["Full", "LoRA"]}, "seeds": [0], "compare": None}
    [facet] = facets(Sweep(SweepFacts.model_validate(facts), rows))
    found, missing = stopped(facet)
    if sent[0] > paid:
        assert not found
        assert "at its first evaluation already" in missing[0]
        return
    assert not missing
    [point] = found[0].points.values()
    assert point.bytes_per_client == max(count for count in sent if count <= paid)
    assert list(found[0].scores) == [CURVE]  # the others are not known of both


def test_a_full_table_of_another_kind_is_named_as_missing(sweep: Sweep, tmp_path: Path) -> None:
    for changes, said in (
        ({"setup_encoding": "int4"}, "fedmf with k = 32 in int4"),
        ({"setup_dim": 64}, "fedmf with k = 64 in int8"),
        ({"setup_backbone": "fedncf"}, "fedncf with k = 32 in int8"),
    ):
        other = changed(sweep, "P-LoRA", **changes)
        text = page(other, tmp_path)
        assert f"There is no cell with a full table of {said} to hold against P-LoRA." in text
        [facet] = facets(other)
        assert [facet.name(each.adapter) for each in stopped(facet)[0]] == ["P-Hash"]


def test_cells_that_lack_the_same_one_share_a_sentence(tmp_path: Path) -> None:
    text = page(read_sweep(write_sweep(tmp_path / "s")), tmp_path)
    assert "in int8 to hold against P-LoRA; P-Hash." in text
    assert text.count("There is no cell") == 1
    assert "stopped at the same bytes, on validation" not in text


def test_another_split_is_not_read(sweep: Sweep) -> None:
    [facet] = facets(changed(sweep, NAME, split="f" * 64))
    assert not stopped(facet)[0]


def test_of_several_the_best_is_read(sweep: Sweep) -> None:
    better = [p._replace(ndcg=p.ndcg + 0.01) for p in sweep.rows[0]["curve"]]
    rows = [*sweep.rows]
    extra = [
        {**row, "strategy": "Full, int8, faster", "curve": better}
        for row in rows
        if row["strategy"] == NAME
    ]
    labels = [*sweep.facts.axes["strategy"], "Full, int8, faster"]
    facts = sweep.facts.model_copy(update={"axes": {**sweep.facts.axes, "strategy": labels}})
    cheap = [
        {**row, "curve": [p._replace(bytes_per_client=p.bytes_per_client / 10) for p in better]}
        for row in extra
    ]
    [facet] = facets(replace(sweep, facts=facts, rows=[*rows, *cheap]))
    assert {facet.name(each.full) for each in stopped(facet)[0]} == {"Full, int8, faster"}


def test_the_page_says_that_it_is_validation(sweep: Sweep, tmp_path: Path) -> None:
    text = page(sweep, tmp_path)
    assert "The full table stopped at the same bytes, on validation" in text
    assert text.count(f"{NAME}, stopped") == 2
    assert re.search(r"Full, int8, stopped +0\.0360 ± 0\.0001", text)


def test_records_keep_what_it_takes(sweep: Sweep, tmp_path: Path) -> None:
    write_records(sweep, tmp_path / "r.jsonl")
    assert page(read_records(tmp_path / "r.jsonl"), tmp_path) == page(sweep, tmp_path)


def test_results_of_before_say_that_it_is_not_known(sweep: Sweep, tmp_path: Path) -> None:
    rows = [{k: v for k, v in r.items() if not k.startswith("setup.")} for r in sweep.rows]
    short = [{**row, "curve": [Point(*p[:3]) for p in row["curve"]]} for row in rows]
    older = replace(sweep, rows=short)
    write_records(older, tmp_path / "r.jsonl")
    for found in (older, read_records(tmp_path / "r.jsonl")):
        text = page(found, tmp_path)
        assert "is not in these results, so that no full table is shown stopped" in text
        assert "There is no cell" not in text
