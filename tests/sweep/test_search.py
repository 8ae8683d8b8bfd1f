"""The search chooses on validation, and goes on where it was."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

from cli.tools import fedpeft
from fedpeft.errors import ArtifactError, ConfigError, MissingExtraError
from fedpeft.sweep import read_grid
from fedpeft.sweep.folder import Outcome, SweepFolder
from fedpeft.sweep.search import Search, check_search

from .grids import SMALL, STRATEGIES, write_grid

KEYS = '"training.server_optimizer.lr" = {low = 1e-3, high = 0.1, log = true}'
GRID = f"""
seeds = [0, 1]
base.training.rounds = 10
{SMALL}
{STRATEGIES}
[search]
trials = 3
[search.keys]
{KEYS}
"adapter.init_std" = {{choices = [0.1, 0.2]}}
"""


def made(folder: Path, text: str = GRID) -> tuple[Search, SweepFolder]:
    grid = read_grid(write_grid(folder, text), folder)
    check_search(grid)
    where = SweepFolder(folder / "out")
    return Search(grid, [cell.labels for cell in grid.cells()], where), where


def test_trials_are_taken_up_again(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    search, folder = made(tmp_path)
    jobs = search.begin(4)
    assert len(jobs) == 4  # two trials with two seeds
    assert all(not job.config.evaluation.test for job in jobs)
    assert {job.config.adapter.kind for job in jobs} == {"full", "lora"}
    again, folder = made(tmp_path)  # as after a kill
    taken = again.begin(4)
    assert {job.folder for job in taken} == {job.folder for job in jobs}
    count = len(taken)
    while taken:  # every run fails, so every trial does, and the search comes to its end
        for job in taken:
            folder.record(job, Outcome(1, "diverged"))
        taken = again.follow()
        count += len(taken)
    assert count == 2 * 3 * 2
    assert again.best() == []


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("base.training.rounds = 10", "base.training.rounds = 11"),
        ("high = 0.1", "high = 0.2"),
        ("choices = [0.1, 0.2]", "choices = [0.1, 0.3]"),
        ("seeds = [0, 1]", "seeds = [2, 3]"),
    ],
)
def test_a_search_of_other_settings_begins_anew(was: str, now: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    search, folder = made(tmp_path)
    taken = search.begin(4)
    while taken:
        for job in taken:
            folder.record(job, Outcome(1, "diverged"))
        taken = search.follow()
    assert made(tmp_path)[0].begin(1) == []  # it has had its trials
    assert made(tmp_path, GRID.replace(was, now))[0].begin(1)
    assert made(tmp_path)[0].begin(1) == []  # and back


@pytest.mark.parametrize("line", ["hello", "{}", "[1, 2]"])
def test_a_damaged_journal_is_told(line: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    made(tmp_path)[0].begin(1)
    journal = tmp_path / "out" / "search.journal"
    journal.write_text(f"{line}\n{journal.read_text()}")
    with pytest.raises(ArtifactError, match=r"search\.journal is damaged"):
        made(tmp_path)


def test_every_end_is_checked_first(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    with pytest.raises(ConfigError, match=r"cell strategy=Full.*lr = -1"):
        made(tmp_path, GRID.replace("low = 1e-3, high = 0.1, log = true", "low = -1, high = 1"))


def test_without_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"needs the extra 'tune'"):
        made(tmp_path)


@pytest.mark.slow
def test_search(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    text = GRID.replace("seeds = [0, 1]", "seeds = [0]").replace("trials = 3", "trials = 2")
    write_grid(tmp_path, text)
    done = fedpeft("sweep", "grid.toml", "--jobs", "2", "--out", "out")
    assert done.code == 0, done.err
    assert "best for strategy=P-LoRA: training.server_optimizer.lr = " in done.out
    table = pl.read_parquet(tmp_path / "out" / "results.parquet")
    assert table["status"].to_list() == ["done"] * 4
    assert not [name for name in table.columns if "test." in name]
    assert fedpeft("report", "out").code == 0
