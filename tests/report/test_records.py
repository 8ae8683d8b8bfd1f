"""A sweep's records: what they keep, how they grow, what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.foreign import printable
from fedpeft.report.sweeps import Sweep, facets, read_records, read_sweep, write_records
from fedpeft.report.sweeps.page import write_sweep_report

from .sweeps import write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return read_sweep(write_sweep(tmp_path / "s", missing=1, axes={"backbone": ["Z", "A"]}))


def without(sweep: Sweep, *numbers: int, **changes: Any) -> Sweep:
    """Return a sweep in which some rows are not done, or have changes."""
    rows = [
        {**{k: row[k] for k in (*sweep.facts.axes, "seed", "config")}, "status": "missing"}
        | changes
        if number in numbers
        else row
        for number, row in enumerate(sweep.rows)
    ]
    return replace(sweep, rows=rows)


def test_the_page_is_the_same_from_either(sweep: Sweep, tmp_path: Path) -> None:
    write_records(sweep, tmp_path / "r.jsonl")
    again = read_records(tmp_path / "r.jsonl")
    assert list(again.facts.axes) == list(sweep.facts.axes)  # in their order
    write_sweep_report(sweep, tmp_path / "folder.html")
    write_sweep_report(again, tmp_path / "records.html")
    assert (tmp_path / "folder.html").read_text() == (tmp_path / "records.html").read_text()


def test_they_name_no_folder_and_one_run_per_line(sweep: Sweep, tmp_path: Path) -> None:
    write_records(sweep, tmp_path / "r.jsonl")
    facts, *rows = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    assert facts["compare"] == {"axis": "strategy", "reference": "Full"}
    assert len(rows) == len(sweep.rows)
    assert not any("folder" in row for row in rows)
    assert all((row["status"] == "done") == ("commit" in row) for row in rows)


def test_parts_of_a_sweep_add_up(sweep: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    assert write_records(without(sweep, 1, 2), path).status["done"] == 15
    joined = write_records(without(sweep, 0, 3, 4), path)
    assert joined.status == {"done": 17, "failed": 0, "begun": 0, "missing": 1}
    assert read_records(path).status == joined.status
    whole = [cell.level for facet in facets(sweep) for cell in facet.cells]
    assert [cell.level for facet in facets(joined) for cell in facet.cells] == pytest.approx(whole)


def test_newer_results_replace_older_ones(sweep: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_records(sweep, path)
    newer = [{**row, "commit": "new"} if n == 0 else row for n, row in enumerate(sweep.rows)]
    joined = write_records(replace(sweep, rows=newer), path)
    assert [row.get("commit") == "new" for row in joined.rows] == [n == 0 for n in range(18)]


def test_results_of_other_settings_leave_only_when_told(sweep: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_records(sweep, path)
    before = path.read_text()
    changed = without(sweep, 0, config="another")
    label = ", ".join(f"{axis}={sweep.rows[0][axis]}" for axis in sweep.facts.axes)
    with pytest.raises(ConfigError, match=re.escape(f"(1, the first: {label}, seed=")):
        write_records(changed, path)
    assert path.read_text() == before
    joined = write_records(changed, path, drop=True)
    assert joined.rows[0]["status"] == "missing"
    assert joined.status["done"] == 16
    assert read_records(path).status == joined.status


def test_what_is_not_known_may_be_left_out(sweep: Sweep, tmp_path: Path) -> None:
    """Outside a git checkout there is no commit."""
    rows = [{**row, "commit": None} for row in sweep.rows]
    write_records(replace(sweep, rows=rows), tmp_path / "r.jsonl")
    assert read_records(tmp_path / "r.jsonl").status == sweep.status


@pytest.mark.parametrize("end", ["\u2028", "\u0085", "\x0b", "\r"])
def test_any_label_can_be_read_back(end: str, tmp_path: Path) -> None:
    sweep = read_sweep(write_sweep(tmp_path / "s", axes={"a": [f"x{end}y"]}))
    write_records(sweep, tmp_path / "r.jsonl")
    assert read_records(tmp_path / "r.jsonl").rows[0]["a"] == printable(f"x{end}y")


def test_results_of_other_data_are_not_joined(sweep: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_records(sweep, path)
    changed = [{**row, "split": "f" * 64} if n == 2 else row for n, row in enumerate(sweep.rows)]
    with pytest.raises(ConfigError, match=r"on the split .*, the sweep on ffffffffffff: the data"):
        write_records(replace(sweep, rows=changed), path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "finished"}, "'status' = 'finished' must be one of done, failed, begun, miss"),
        ({"seed": "0"}, "'seed' = '0' must be a whole number"),
        ({"strategy": ["Full"]}, r"'strategy' = \['Full'\] must be text"),
        ({"split": 5}, "'split' = 5 must be text"),
        ({"test.sampled.ndcg@10": "high"}, "'high' must be a finite number"),
        ({"bytes.total_per_client_mean": float("nan")}, "NaN is no finite number"),
        ({"seed": 1}, "has 2 rows of .*Full.*, 1; keep one"),
    ],
)
def test_values_that_no_sweep_writes(
    change: dict[str, Any], said: str, sweep: Sweep, tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    write_records(sweep, path)
    facts, first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([facts, json.dumps(json.loads(first) | change), *rest]))
    with pytest.raises(ArtifactError, match=said):
        read_records(path)


def test_another_grids_results_are_not_replaced(sweep: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_records(sweep, path)
    before = path.read_text()
    other = replace(sweep, facts=sweep.facts.model_copy(update={"name": "other"}))
    with pytest.raises(ConfigError, match="has the results of 'toy-grid', which those of 'other'"):
        write_records(other, path)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{\n", "line 1 is not valid JSON"),
        ('{"name": "s"}\n', "has no valid 'axes'"),
        (
            '{"name":"s","axes":[["a",["b"]]],"seeds":[0],"compare":null}\n{}\n',
            "line 2 has no key 'a'",
        ),
        (
            '{"name":"s","axes":[],"seeds":[0],"compare":null}\n'
            '{"seed":0,"status":"done","config":"c"}\n',
            "line 2 has no key 'curve'",
        ),
        ('{"name":"s","axes":[],"seeds":[0],"compare":null}\n5\n', "line 2 is no JSON object"),
        ("5\n", "does not begin with what was asked for"),
        (
            '{"name":"s","axes":[],"seeds":[0],"compare":{"axis":"a","reference":"b"}}\n',
            "'compare.axis' = 'a' is none of its axes",
        ),
        (
            '{"name":"s","axes":[],"seeds":[0],"compare":null}\n'
            '{"seed":0,"status":"done","config":"c","commit":"c","version":"v","split":"s",'
            '"curve":[[1]]}\n',
            "line 2: 'curve' must be a list",
        ),
    ],
)
def test_damaged(text: str, said: str, sweep: Sweep, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=said):
        write_records(sweep, path)
    assert path.read_text() == text
