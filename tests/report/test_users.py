"""Differences paired over users, from the files that runs leave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_rel

from fedpeft.errors import ArtifactError
from fedpeft.report import Run, comparison, read_run
from fedpeft.report.runs import read_gains
from fedpeft.report.sweeps import facets, read_records, read_sweep, write_records
from fedpeft.report.sweeps.page import write_sweep_report
from fedpeft.report.table import as_json
from fedpeft.report.users import over_users

from .folders import simulated_run
from .sweeps import write_sweep

RNG = np.random.default_rng(0)
FULL, LORA = RNG.random(50), RNG.random(50)


def write_gains(folder: Path, gains: Sequence[float | None] | np.ndarray) -> None:
    pl.DataFrame(
        {"user": [f"u{i}" for i in range(len(gains))], "test.sampled.ndcg@10": gains}
    ).write_parquet(folder / "users.parquet")


def run(tmp_path: Path, name: str, gains: np.ndarray | None = None, **changes: object) -> Run:
    folder = simulated_run(tmp_path / name, name, 1e4, 0.4, **changes)
    if gains is not None:
        write_gains(folder, gains)
    return read_run(folder)


def test_the_interval_is_that_of_the_paired_t_test_over_users() -> None:
    found = over_users(LORA, FULL)
    expected = ttest_rel(LORA, FULL).confidence_interval(0.95)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.n == 50
    assert over_users(LORA[:-1], FULL) is None
    assert over_users(LORA[:0], FULL[:0]) is None
    alone = over_users(LORA[:1], FULL[:1])
    assert alone is not None
    assert (alone.low, alone.high) == (None, None)


def test_compare_tells_it_of_all_but_the_reference(tmp_path: Path) -> None:
    runs = [run(tmp_path, "LoRA", LORA), run(tmp_path, "Full", FULL), run(tmp_path, "Hash")]
    compared = comparison(runs)
    lora, full, older = (row.difference for row in compared.rows)
    assert (full, older) == (None, None)
    assert lora == over_users(LORA, FULL)
    assert lora is not None
    [note] = [note for note in compared.notes() if "paired over users" in note]
    assert "against Full, paired over users" in note
    assert f"LoRA {lora.mean:+.4f} [{lora.low:+.4f}, {lora.high:+.4f}]" in note
    told = as_json(compared)
    assert told["reference"] == "Full"
    assert told["runs"][0]["difference"]["n"] == 50
    assert told["runs"][1]["difference"] is None


def test_users_of_other_splits_are_no_pairs(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, "Full", FULL),
        run(tmp_path, "LoRA", LORA, split_fingerprint="00" * 32),
    ]
    compared = comparison(runs, allow_different_splits=True)
    assert [row.difference for row in compared.rows] == [None, None]
    assert not any("over users" in note for note in compared.notes())


def test_a_sweep_takes_each_users_mean_over_the_common_seeds(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", missing=1)
    rows = pl.read_parquet(folder / "results.parquet").to_dicts()
    gains = {}
    for row in rows[:-1]:
        if row["strategy"] != "P-Hash":
            gains[row["strategy"], row["seed"]] = found = RNG.random(50)
            write_gains(folder / row["folder"], found)
    sweep = read_sweep(folder)
    [facet] = facets(sweep)
    full, lora, hashed = facet.cells
    assert full.over_users is None
    assert hashed.over_users is None
    means = (np.mean([gains[name, s] for s in range(3)], axis=0) for name in ("P-LoRA", "Full"))
    expected = over_users(*means)
    assert lora.over_users is not None
    assert expected is not None
    assert (lora.over_users.mean, lora.over_users.low) == (expected.mean, expected.low)
    write_sweep_report(sweep, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert f"over users [{expected.low:+.4f}, {expected.high:+.4f}]" in text
    assert text.count("over users [") == 1


def test_records_leave_users_out(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    plain = read_sweep(folder)
    write_records(plain, tmp_path / "plain.jsonl")
    for row in plain.rows:
        write_gains(folder / row["folder"], FULL)
    write_records(read_sweep(folder), tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_bytes() == (tmp_path / "plain.jsonl").read_bytes()
    write_sweep_report(read_records(tmp_path / "r.jsonl"), tmp_path / "r.html")
    assert "over users" not in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "gains", [[0.1, None], [0.1, 1.5], ["a", "b"], [0.1, float("nan")]], ids=str
)
def test_what_is_no_gain_is_refused(gains: list[float | None], tmp_path: Path) -> None:
    write_gains(tmp_path, gains)
    with pytest.raises(ArtifactError, match=r"'test.sampled.ndcg@10' must be numbers in \[0, 1\]"):
        read_gains(tmp_path)


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    """What stands for several files elsewhere is a name here."""
    folder = tmp_path / "a [b]*"
    folder.mkdir()
    assert read_gains(folder) == {}
    write_gains(folder, FULL)
    assert np.array_equal(read_gains(folder)["test"], FULL)


def test_no_file_and_a_damaged_one(tmp_path: Path) -> None:
    assert read_gains(tmp_path) == {}
    (tmp_path / "users.parquet").write_bytes(b"none")
    with pytest.raises(ArtifactError, match=r"users\.parquet is not a readable Parquet file"):
        read_gains(tmp_path)
