"""Verdicts on three metrics, over users where runs have kept what each got, else over seeds."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from fedpeft.errors import ArtifactError
from fedpeft.report import Run, comparison, read_run
from fedpeft.report.runs import read_gains
from fedpeft.report.statistics import Interval, interval_of, spread_of
from fedpeft.report.sweeps import facets, read_records, read_sweep, write_records
from fedpeft.report.sweeps.page import write_sweep_report
from fedpeft.report.table import as_json, as_text
from fedpeft.report.verdicts import (
    FEWEST,
    MAIN,
    METRICS,
    OVERALL,
    SEEDS,
    VERDICTS,
    Score,
    difference,
    interval_text,
    overall,
    verdict,
)

from .folders import simulated_run
from .sweeps import write_sweep

RNG = np.random.default_rng(0)
FULL, LORA = RNG.random(50), RNG.random(50)
VALUES = st.lists(
    st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=6, unique_by=lambda p: p[0]
)
ABOVE = Interval(0.2, 0.1, 0.3, 9)
WITHIN = Interval(0.1, -0.1, 0.3, 9)
BELOW = Interval(-0.2, -0.3, -0.1, 9)
ALONE = Interval(0.2, None, None, 1)


def write_users(folder: Path, values: np.ndarray) -> None:
    """Write what each user got: `values` as both NDCG@10, and ranks of 1 or 11."""
    columns: dict[str, object] = {"user": [f"u{i}" for i in range(len(values))]}
    for ranking in ("sampled", "full"):
        columns[f"test.{ranking}.ndcg@10"] = values
        columns[f"test.{ranking}.rank"] = np.where(values > 0.5, 1, 11)
    pl.DataFrame(columns).write_parquet(folder / "users.parquet")


def run(tmp_path: Path, name: str, users: np.ndarray | None = None, **changes: object) -> Run:
    folder = simulated_run(tmp_path / name, name, 1e4, 0.4, **changes)
    if users is not None:
        write_users(folder, users)
    return read_run(folder)


@given(VALUES)
def test_interval_is_that_of_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    left, right = zip(*pairs, strict=True)
    sides = [{seed: Score(value) for seed, value in enumerate(side)} for side in (left, right)]
    found = difference(*sides)
    gaps = [a - b for a, b in pairs]
    assert found is not None
    assert found.over == "seeds"
    assert found.mean == pytest.approx(mean(gaps))
    if stdev(gaps) > 1e-9:
        expected = ttest_rel(left, right).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_common_seeds_are_paired() -> None:
    mine = {seed: Score(value) for seed, value in enumerate((1.0, 2.0, 9.0))}
    found = difference(mine, {1: Score(1.0), 2: Score(8.0), 5: Score(0.0)})
    assert found is not None
    assert (found.n, found.mean) == (2, 1.0)
    assert difference({0: Score(1.0)}, {1: Score(1.0)}) is None
    alone = difference({0: Score(1.0)}, {0: Score(2.0)})
    assert alone is not None
    assert (alone.mean, alone.low, alone.high) == (-1.0, None, None)
    assert spread_of([0.5]).std is None


def test_users_are_paired_where_every_run_has_kept_them() -> None:
    kept = difference({0: Score(0.4, LORA)}, {0: Score(0.5, FULL)})
    expected = ttest_rel(LORA, FULL).confidence_interval(0.95)
    assert kept is not None
    assert (kept.over, kept.n) == ("users", 50)
    assert (kept.low, kept.high) == pytest.approx((expected.low, expected.high))
    for mine, its in ((LORA, None), (LORA[:-1], FULL), (LORA[:0], FULL[:0])):
        found = difference({0: Score(0.4, mine)}, {0: Score(0.5, its)})
        assert found is not None
        assert (found.over, found.n) == ("seeds", 1)
    some = difference(
        {0: Score(0.4, LORA), 1: Score(0.4)}, {0: Score(0.5, FULL), 1: Score(0.5, FULL)}
    )
    assert some is not None
    assert (some.over, some.n) == ("seeds", 2)


def test_a_verdict_takes_an_interval_of_three_pairs() -> None:
    assert [verdict(gap) for gap in (ABOVE, WITHIN, BELOW)] == ["won", "within noise", "lost"]
    assert verdict(ALONE) == verdict(None) == "no verdict"
    two, three = interval_of([1.0, 1.0001]), interval_of([1.0, 1.0001, 1.0])
    assert two.low is not None
    assert two.low > 0
    assert (verdict(two), verdict(three)) == ("no verdict", "won")
    assert three.n == FEWEST
    touching = Interval(0.1, 0.0, 0.2, 9)
    assert verdict(touching) == "within noise"


@pytest.mark.parametrize(
    ("gaps", "share", "expected"),
    [
        ((WITHIN, WITHIN, WITHIN), 0.1, "won"),
        ((WITHIN, WITHIN, WITHIN), 1.0, "within noise"),
        ((WITHIN, WITHIN, WITHIN), None, "within noise"),
        ((WITHIN, ABOVE, WITHIN), 2.0, "won"),
        ((BELOW, ABOVE, ABOVE), 0.1, "lost"),
        ((ABOVE, ABOVE, BELOW), 0.1, "lost"),
        ((ABOVE, ABOVE, ALONE), 0.1, "no verdict"),
        ((BELOW, ALONE, ALONE), 0.1, "lost"),
        ((ABOVE, ABOVE), 0.1, "no verdict"),
    ],
)
def test_all_metrics_decide_together(
    gaps: tuple[Interval, ...], share: float | None, expected: str
) -> None:
    assert overall(dict(zip(METRICS, gaps, strict=False)), share) == expected


def test_within_noise_is_not_called_equal() -> None:
    assert "does not say that both are equal" in VERDICTS
    assert "equal" not in OVERALL


def test_full_ranking_stands_first() -> None:
    assert next(iter(METRICS)) == MAIN == "full.ndcg@10"
    assert list(METRICS) == ["full.ndcg@10", "sampled.ndcg@10", "sampled.hr@10"]


def test_compare_tells_it_of_all_but_the_reference(tmp_path: Path) -> None:
    runs = [run(tmp_path, "LoRA", LORA), run(tmp_path, "Full", FULL), run(tmp_path, "Hash")]
    compared = comparison(runs)
    lora, full, older = compared.rows
    assert (full.differences, full.verdict) == ({}, None)
    assert {gap.over for gap in older.differences.values()} == {"seeds"}
    assert older.verdict == "no verdict"
    for name in METRICS:
        values = [side > 0.5 if name.endswith("hr@10") else side for side in (LORA, FULL)]
        gap = interval_of(np.subtract(*map(np.float64, values)), "users")
        assert lora.differences[name] == gap
    assert lora.verdict == "within noise"  # it costs more than Full here
    text = as_text(compared)
    [heads] = [line for line in text.splitlines() if line.startswith("| Against Full")]
    assert [head.strip() for head in heads.split("|")[2:6]] == [*METRICS.values(), "In all"]
    gap = lora.differences[MAIN]
    assert f"{gap.mean:+.4f} {interval_text(gap)}" in text
    [note] = [note for note in compared.notes() if "paired over the users" in note]
    assert note.startswith("Verdicts are against Full, paired over the users")
    assert SEEDS in note
    told = json.loads(json.dumps(as_json(compared)))
    assert told["reference"] == "Full"
    assert told["runs"][0]["differences"][MAIN]["n"] == 50
    assert told["runs"][0]["verdict"] == lora.verdict
    assert told["runs"][1]["differences"] == {}


def test_users_of_other_splits_are_no_pairs(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, "Full", FULL),
        run(tmp_path, "LoRA", LORA, split_fingerprint="00" * 32),
    ]
    compared = comparison(runs, allow_different_splits=True)
    assert [row.verdict for row in compared.rows] == [None, None]
    assert not any("paired over" in note for note in compared.notes())


def test_a_sweep_takes_each_users_mean_over_the_common_seeds(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", missing=1)
    rows = pl.read_parquet(folder / "results.parquet").to_dicts()
    gains = {}
    for row in rows[:-1]:
        if row["strategy"] != "P-Hash":
            gains[row["strategy"], row["seed"]] = found = RNG.random(50)
            write_users(folder / row["folder"], found)
    sweep = read_sweep(folder)
    [facet] = facets(sweep)
    full, lora, hashed = facet.cells
    assert full.differences == {}
    assert {gap.over for gap in hashed.differences.values()} == {"seeds"}
    means = [np.mean([gains[name, s] for s in range(3)], axis=0) for name in ("P-LoRA", "Full")]
    expected = interval_of(means[0] - means[1], "users")
    assert lora.differences[MAIN].low == pytest.approx(expected.low)
    assert lora.differences["sampled.hr@10"].over == "users"
    write_sweep_report(sweep, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert interval_text(expected) in text
    assert text.count(f"] {SEEDS}") == 3  # those of P-Hash
    assert f"paired over the users, or where there is a {SEEDS} over the seeds" in text


def test_records_leave_users_out(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s")
    plain = read_sweep(folder)
    write_records(plain, tmp_path / "plain.jsonl")
    for row in plain.rows:
        write_users(folder / row["folder"], FULL)
    write_records(read_sweep(folder), tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_bytes() == (tmp_path / "plain.jsonl").read_bytes()
    write_sweep_report(read_records(tmp_path / "r.jsonl"), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "paired over the seeds (what each user got is not known)" in text


@pytest.mark.parametrize("values", [[0.1, None], [0.1, 1.5], ["a", "b"], [0.1, float("nan")]])
@pytest.mark.parametrize("name", ["test.sampled.ndcg@10", "validation.full.ndcg@10"])
def test_what_is_no_gain_is_refused(name: str, values: list[object], tmp_path: Path) -> None:
    pl.DataFrame({name: values}).write_parquet(tmp_path / "users.parquet")
    with pytest.raises(ArtifactError, match=rf"'{name}' must be numbers in \[0, 1\]"):
        read_gains(tmp_path)


@pytest.mark.parametrize("ranks", [[0, 1], [1, None], ["a", "b"]])
def test_what_is_no_rank_is_refused(ranks: list[object], tmp_path: Path) -> None:
    pl.DataFrame({"test.full.rank": ranks}).write_parquet(tmp_path / "users.parquet")
    with pytest.raises(ArtifactError, match=r"'test\.full\.rank' must be 1 or more"):
        read_gains(tmp_path)


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    """What stands for several files elsewhere is a name here."""
    folder = tmp_path / "a [b]*"
    folder.mkdir()
    assert read_gains(folder) == {}
    write_users(folder, FULL)
    found = read_gains(folder)
    assert np.array_equal(found["test.sampled.ndcg@10"], FULL)
    assert np.array_equal(found["test.full.hr@10"], FULL > 0.5)


def test_no_file_and_a_damaged_one(tmp_path: Path) -> None:
    assert read_gains(tmp_path) == {}
    (tmp_path / "users.parquet").write_bytes(b"none")
    with pytest.raises(ArtifactError, match=r"users\.parquet is not a readable Parquet file"):
        read_gains(tmp_path)
