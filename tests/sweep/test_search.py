"""The search chooses on validation, and goes on where it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest

from cli.tools import fedpeft
from fedpeft.errors import ArtifactError, ConfigError, MissingExtraError
from fedpeft.sweep import read_grid
from fedpeft.sweep.file import RangeConfig
from fedpeft.sweep.folder import Outcome, SweepFolder
from fedpeft.sweep.search import Search, check_search
from fedpeft.sweep.space import rounded

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
"training.local_decay" = {{choices = [0.1, 0.2]}}
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
    assert again.found() == []


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("base.training.rounds = 10", "base.training.rounds = 11"),
        ("high = 0.1", "high = 0.2"),
        ("choices = [0.1, 0.2]", "choices = [0.1, 0.3]"),
        ("seeds = [0, 1]", "seeds = [2, 3]"),
    ],
)
def test_a_search_of_other_settings_begins_anew(
    was: str, now: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr("fedpeft.sweep.study.objective", lambda job, ranking: 0.5)
    search, _ = made(tmp_path)
    taken = search.begin(4)
    while taken:
        for job in taken:
            job.folder.mkdir(parents=True)
            (job.folder / "result.json").touch()
        taken = search.follow()
    assert made(tmp_path)[0].begin(1) == []  # it has had its trials
    assert made(tmp_path, GRID.replace(was, now))[0].begin(1)
    assert made(tmp_path)[0].begin(1) == []  # and back


def test_trials_of_equal_settings_share_a_run(tmp_path: Path) -> None:
    """Two processes in one run folder would spoil it."""
    pytest.importorskip("optuna")
    text = GRID.replace(KEYS, '"training.refresh_every" = {choices = [0]}')
    search, folder = made(tmp_path, text)
    jobs = search.begin(100)
    assert len({job.folder for job in jobs}) == len(jobs) == 2 * 2 * 2  # studies, choices, seeds
    again = made(tmp_path, text)[0]
    assert {job.folder for job in again.begin(100)} == {job.folder for job in jobs}
    for job in jobs:
        folder.record(job, Outcome(1, "diverged"))
    assert search.follow() == []


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    search, folder = made(tmp_path)
    taken = search.begin(4)
    while taken:
        for job in taken:
            folder.record(job, Outcome(1, "diverged"))
        taken = search.follow()
    again, folder = made(tmp_path)
    taken = again.begin(4)
    assert {folder.status(job) for job in taken} == {"missing"}


def test_settings_that_do_not_go_together_end_a_trial_only(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    text = GRID.replace(
        KEYS,
        '"training.rounds" = {choices = [10, 2]}\n"training.warmup_rounds" = {choices = [1, 5]}',
    ).replace("trials = 3", "trials = 12")
    search, _ = made(tmp_path, text)
    found = {
        (job.config.training.rounds, job.config.training.warmup_rounds)
        for job in search.begin(1000)
    }
    assert found
    assert (2, 5) not in found
    made(tmp_path, text)  # what the journal has of it is taken up again


def test_a_rounded_number_stays_in_its_range() -> None:
    space = RangeConfig(low=0.99991, high=0.99999)
    assert rounded(0.999985, space) == 0.99999
    assert rounded(0.999912, space) == 0.99991
    assert rounded(0.123456, RangeConfig(low=0.1, high=0.2)) == 0.1235


def test_other_labels_keep_what_was_found_for_them(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    search, folder = made(tmp_path)
    search.begin(4)
    grid = read_grid(tmp_path / "grid.toml", tmp_path)
    chosen = [cell.labels for cell in grid.cells() if cell.labels["strategy"] == "Full"]
    some = Search(grid, chosen, folder)
    assert {cell.labels["strategy"] for cell in some.cells} == {"Full", "P-LoRA"}
    assert {cell.labels["strategy"] for cell in some.chosen} == {"Full"}
    assert {job.config.adapter.kind for job in some.begin(100)} == {"full"}


def test_a_seed_alone_cannot_be_searched_for(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    write_grid(tmp_path, GRID)
    grid, out = tmp_path / "grid.toml", tmp_path / "out"
    done = fedpeft("sweep", str(grid), "--out", str(out), "--only", "seed=0")
    assert done.code == 2
    assert "--only seed=… leaves seeds out" in done.err
    assert not out.exists()


def test_what_a_kill_leaves_of_the_journal_is_mended(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    jobs = made(tmp_path)[0].begin(4)
    journal = tmp_path / "out" / "search.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "worker')
    journal.with_name("search.journal.lock").symlink_to(journal)
    again = made(tmp_path)[0]
    assert {job.folder for job in again.begin(4)} == {job.folder for job in jobs}
    assert all(map(json.loads, journal.read_text().splitlines()))


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
