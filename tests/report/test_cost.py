"""The section on costs: one run beside its alternatives, several runs, none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedpeft.errors import ArtifactError
from fedpeft.report import read_run
from fedpeft.report.cost import COLUMNS, cost_table
from fedpeft.report.html import write_report
from fedpeft.report.table import megabytes

from .folders import simulated_run

NONE = dict.fromkeys(("base", "subspace", "adapter", "shared", "local", "optimizer", "feedback"), 0)


def entry(label: str, payload: int) -> dict[str, Any]:
    operations = {"matmul": 256, "elementwise": 32, "integer": 0}
    return {
        "label": label,
        "communication": [
            {"encoding": "as set", "upload_encoding": "float32", "download_encoding": "int8",
             "upload_round": payload, "download_round": payload // 4, "base": 2_000_000,
             "subspace": 500_000, "mean_download_round": 8_000.0, "total": 15_000_000.0}
        ],
        "storage": {
            "client": {**NONE, "base": 3_000_000, "local": 128},
            "server": {**NONE, "base": 3_000_000, "optimizer": 1_500_000},
        },
        "computation": {"vector": operations, "step": {**operations, "matmul": 5000}},
        "capacity": {"parameters": 9, "rank": 4, "reachable": None, "expected_distinct": 3654.2},
    }  # fmt: skip


def costs(own: str) -> dict[str, Any]:
    scale = {"items": 3706, "dim": 32, "clients": 600, "touched": 166}
    both = [entry("Full", 474_368), entry("P-LoRA r=4", 29_904)]
    return {"strategy": own, "scale": scale, "strategies": both}


def run(folder: Path, name: str, cost: Any) -> Any:
    return read_run(simulated_run(folder, name, 59_808.0, 0.4, rounds=30, cost=cost))


def test_a_run_stands_among_its_alternatives(tmp_path: Path) -> None:
    found = cost_table([run(tmp_path / "a", "P-LoRA r=4", costs("P-LoRA r=4"))])
    assert found is not None
    assert found.own == 1
    assert [row[0] for row in found.rows] == ["Full", "P-LoRA r=4"]
    assert dict(zip(COLUMNS, found.rows[1], strict=True)) == {
        "Strategy": "P-LoRA r=4",
        "Values, up / down": "float32 / int8",
        "Bytes up, round": "29,904",
        "Bytes down, round": "7,476",
        "Bytes down, mean round": "8,000",
        "Initial download, MB": "2.50",
        "Run, MB / client": "15.00",
        "Client keeps, MB": "3.00",
        "Server keeps, MB": "4.50",
        "FLOPs, item vector": "288",
        "FLOPs, step": "5,032",
        "Rank, at most": "4",
        "Distinct corrections": "3,654",
    }
    assert "3,706 items" in found.note


def test_a_run_of_touched_rows_has_its_own_bytes(tmp_path: Path) -> None:
    """What an upload of rows takes depends on the client, so the run's row has what was sent."""
    config = {"adapter": {"kind": "lora"}, "training": {"upload": "rows"}}
    cost = costs("P-LoRA r=4")
    for strategy in cost["strategies"]:
        strategy["communication"][0]["upload_layout"] = "rows"
    path = simulated_run(
        tmp_path / "a", "P-LoRA r=4", 59_808.0, 0.4, rounds=30, cost=cost, config=config
    )
    found = cost_table([read_run(path)])
    assert found is not None
    other, own = (dict(zip(COLUMNS, row, strict=True)) for row in found.rows)
    assert own["Values, up / down"] == other["Values, up / down"] == "float32, rows / int8"
    assert (own["Bytes up, round"], other["Bytes up, round"]) == ("59,808", "474,368")
    assert own["Run, MB / client"] == megabytes(read_run(path).result.bytes.total_per_client_mean)
    assert "a run's own mean" in found.note


def test_earlier_versions_told_one_encoding_for_both_directions(tmp_path: Path) -> None:
    cost = costs("Full")
    for strategy in cost["strategies"]:
        strategy["communication"] = [
            {"encoding": "float16", "round": 29_904, "warmup_round": None, "base": 2_000_000,
             "subspace": 500_000, "total": 15_000_000.0}
        ]  # fmt: skip
    found = cost_table([run(tmp_path / "a", "Full", cost)])
    assert found is not None
    assert list(found.rows[0][1:5]) == ["float16 / float16", "29,904", "29,904", "-"]


def test_several_runs_are_one_row_each(tmp_path: Path) -> None:
    full = run(tmp_path / "a", "Full", costs("Full"))
    lora = run(tmp_path / "b", "P-LoRA r=4", costs("P-LoRA r=4"))
    old = run(tmp_path / "c", "Old", None)
    found = cost_table([full, lora, old])
    assert found is not None
    assert [(row[0], row[2]) for row in found.rows] == [
        ("Full", "474,368"),
        ("P-LoRA r=4", "29,904"),
    ]
    assert found.own is None
    write_report([full, lora, old], tmp_path / "report.html")
    assert "What these strategies cost" in (tmp_path / "report.html").read_text()


def test_runs_of_earlier_versions_have_no_section(tmp_path: Path) -> None:
    old = run(tmp_path / "a", "Old", None)
    assert cost_table([old]) is None
    assert cost_table([old, run(tmp_path / "b", "Older", None)]) is None
    write_report([old], tmp_path / "report.html")
    assert "costs</h2>" not in (tmp_path / "report.html").read_text()


def test_damaged_costs_are_told(tmp_path: Path) -> None:
    cost = costs("Full")
    cost["strategies"][1]["capacity"]["rank"] = "low"
    path = simulated_run(tmp_path / "a", "A", 10.0, 0.3, rounds=30, cost=cost)
    with pytest.raises(ArtifactError, match=r"'cost\.strategies\.1\.capacity\.rank' = 'low'"):
        read_run(path)
