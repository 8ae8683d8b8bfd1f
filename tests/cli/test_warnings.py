"""Users with fewer negatives than asked for are told wherever their metrics are."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from .tools import SMALL, fedpeft

SAID = "60 of 60 users have fewer negatives than the 200 asked for"


@pytest.fixture
def short(here: Path) -> Path:
    """Make a run on 80 items in which 200 negatives are asked for."""
    done = fedpeft(
        "run", *SMALL, "--set", "evaluation.negatives=200", "--rounds", "2", "--out", "short"
    )
    assert done.code == 0, done.err
    assert SAID in done.err
    return Path("short")


def test_short_users_are_told(short: Path) -> None:
    assert SAID in (short / "report.html").read_text(encoding="utf-8")
    for words in (["compare", short], ["evaluate", short]):
        done = fedpeft(*words)
        assert SAID in done.err
        assert "the full ranking is the one to read" in done.err
    told = json.loads(fedpeft("compare", short, "--json").out)
    assert [row["short_users"] for row in (*told["runs"], *told["baselines"])] == [60] * 4
    assert SAID in told["warnings"][0]


def test_runs_that_differ_are_named(short: Path, run: Path) -> None:
    """Negatives are part of the split, so such runs are compared on request alone."""
    done = fedpeft("compare", run, short, "--different-splits")
    assert done.code == 0, done.err
    assert f"P-LoRA r=4, seed 0: {SAID}" in done.err


def test_nobody_is_short(run: Path) -> None:
    for words in (["compare", run], ["evaluate", run]):
        assert "fewer negatives" not in fedpeft(*words).err
    assert json.loads(fedpeft("compare", run, "--json").out)["warnings"] == []


def test_a_sweep_tells_it(here: Path) -> None:
    (here / "grid.toml").write_text(
        "seeds = [0]\n[base]\ntraining.rounds = 1\nevaluation.negatives = 200\n"
        "evaluation.centralised_baseline = false\nitems = {base = 'svd', dim = 4}\n"
        "data.synthetic = {users = 60, items = 80, interactions_per_user = 10, topics = 8}\n"
        "[axes]\npreset = ['none']\n"
    )
    done = fedpeft("sweep", "grid.toml", "--out", "s", "--jobs", "1")
    assert done.code == 0, done.err
    assert pl.read_parquet("s/results.parquet")["test.short_users"].to_list() == [60]
    assert fedpeft("report", "s", "--records", "s.jsonl").code == 0
    assert fedpeft("report", "s.jsonl").code == 0
    for page in (Path("s/report.html"), Path("s.html")):
        assert "Up to 60 users of a run have fewer negatives" in page.read_text(encoding="utf-8")
