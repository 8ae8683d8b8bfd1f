"""Sweeps run, survive kills, and gather one table."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
import torch

from cli.tools import fedpeft
from fedpeft.errors import ArtifactError, Interrupted
from fedpeft.experiment import RunFolder, Schedule, start
from fedpeft.simulation import RunOptions
from fedpeft.sweep import Summary, read_grid, select, sweep
from fedpeft.sweep.folder import Job, Outcome, SweepFolder
from fedpeft.sweep.process import How, Process
from fedpeft.sweep.study import Found

from .grids import SMALL, STRATEGIES, write_grid

GRID = f"""
base.training.rounds = 240
{SMALL}
{STRATEGIES}
[axes.strategy.Diverging]
adapter.kind = "full"
training.server_optimizer.lr = 1e30
[compare]
axis = "strategy"
reference = "Full"
"""


class Watch:
    """Notes what happens; sends a signal to a process, or to this one, once it is under way."""

    def __init__(self, victim: str = "", number: signal.Signals | None = None) -> None:
        self.rounds: dict[str, int] = {}
        """The round with which each run began."""
        self._victim, self._number = victim, number

    def began(self, process: Process) -> None:
        """Nothing is known yet."""

    def ended(self, process: Process, outcome: Outcome) -> None:
        """Note where it began."""
        self.rounds[process.job.config.adapter.kind] = process.first

    def searched(self, left: int, found: Sequence[Found], until: float | None) -> None:
        """A grid without a search has nothing to find."""
        assert (left, found, until) == (0, [], None)

    def tick(self, running: Sequence[Process], pending: Sequence[Job]) -> None:
        """Send the signal after the first checkpoint."""
        for process in running:
            kind = process.job.config.adapter.kind
            if self._number and kind == self._victim and process.round >= 100:
                number, self._number = self._number, None
                own = number != signal.SIGKILL
                os.kill(os.getpid() if own else process._popen.pid, number)


def go(folder: Path, watch: Watch, only: Sequence[str] = ()) -> Summary:
    grid = read_grid(write_grid(folder, GRID), folder)
    cells = grid.cells()
    chosen = select(cells, only)
    how = How(checkpoint_every=20)
    return sweep(grid, cells, chosen, folder / "out", watch, jobs=2, memory=2**40, how=how)


@pytest.fixture(scope="module")
def swept(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which a child was killed, then the sweep stopped, then finished."""
    folder = tmp_path_factory.mktemp("sweep")
    killed = go(folder, Watch("lora", signal.SIGKILL), only=["P-LoRA"])
    ((name, why),) = killed.failed
    assert name == "strategy=P-LoRA, seed=0"
    assert why == "its process was ended by SIGKILL, perhaps for want of memory"
    assert (killed.cells, killed.done) == (3, 0)
    with pytest.raises(Interrupted, match="the same command goes on"):
        go(folder, Watch("full", signal.SIGTERM), only=["Full"])
    table = pl.read_parquet(folder / "out" / "results.parquet")
    assert dict(zip(table["strategy"], table["status"], strict=True)) == {
        "Full": "begun",
        "P-LoRA": "failed",
        "Diverging": "missing",
    }
    peaks = dict(zip(table["strategy"], table["peak_memory"], strict=True))
    assert peaks["Full"] > 2**26  # what was stopped is known when memory is planned anew
    watch = Watch()
    done = go(folder, watch)
    assert (done.cells, done.done) == (3, 2)
    assert [name for name, _ in done.failed] == ["strategy=Diverging, seed=0"]
    assert "no upload of 10 rounds in a row was finite" in done.failed[0][1]
    assert watch.rounds["lora"] >= 80  # a checkpoint every 20 rounds, killed after the 100th
    return folder


def test_killed_run_ends_like_one_that_was_not(swept: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(swept / "out" / "results.parquet")
    (row,) = table.filter(pl.col("strategy") == "P-LoRA").to_dicts()
    config = RunFolder.open(swept / "out" / row["folder"]).config()

    class Silent(Watch):
        stage = started = round = evaluated = note = lambda *_: None

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a sweep's processes have; sums over several differ in last bits
    try:
        whole = start(config, tmp_path / "whole", RunOptions(device="cpu"), Silent(), Schedule())
    finally:
        torch.set_num_threads(threads)
    found = json.loads((swept / "out" / row["folder"] / "result.json").read_text())
    for key in ("metrics", "bytes", "baselines", "config"):
        assert found[key] == whole[key]


def test_finished_runs_are_kept(swept: Path) -> None:
    files = sorted((swept / "out" / "runs").glob("*/result.json"))
    before = [path.stat().st_mtime_ns for path in files]
    watch = Watch()
    assert go(swept, watch, only=["Full", "P-LoRA"]).failed == []
    assert watch.rounds == {}
    assert [path.stat().st_mtime_ns for path in files] == before


def test_table(swept: Path) -> None:
    table = pl.read_parquet(swept / "out" / "results.parquet")
    text = pl.read_csv(swept / "out" / "results.csv")
    assert table.columns == text.columns
    assert len(table) == len(text) == 3
    for row in table.filter(pl.col("status") == "done").to_dicts():
        result = json.loads((swept / "out" / row["folder"] / "result.json").read_text())
        for part in ("validation", "test"):
            for ranking in ("sampled", "full"):
                for name, value in result["metrics"][part][ranking].items():
                    assert row[f"{part}.{ranking}.{name}"] == value
        baseline = result["baselines"]["popularity"]["test"]["full"]["mrr"]
        assert row["baseline.popularity.test.full.mrr"] == baseline
        assert row["bytes.total_per_client_mean"] == result["bytes"]["total_per_client_mean"]
        assert row["split"] == result["split_fingerprint"]
        assert row["seconds"] == result["seconds"]
        assert row["peak_memory"] > 2**26
        (again,) = text.filter(pl.col("strategy") == row["strategy"]).to_dicts()
        assert again["test.sampled.ndcg@10"] == pytest.approx(row["test.sampled.ndcg@10"])
    (failed,) = table.filter(pl.col("status") == "failed").to_dicts()
    assert failed["test.sampled.ndcg@10"] is None
    assert "lower the learning rate" in failed["reason"]


def test_report_verb(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(swept)
    done = fedpeft("report", "out", "--records", "records.jsonl", "--json")
    assert done.code == 0, done.err
    page = (swept / "out" / "report.html").read_text()
    assert "1 of 3 runs are missing here: 1 failed" in page
    assert fedpeft("report", "records.jsonl").code == 0
    again = (swept / "records.html").read_text()
    assert "paired over the users" in page
    assert "paired over the seeds (what each user got is not known)" in again  # no single user is
    figures = r"<td(?: class=\"best\")?>[^<]*"  # what stands below them are differences
    assert re.findall(figures, again)[:1] == re.findall(figures, page)[:1] != []


def test_two_sweeps_of_one_folder(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    with (
        folder.locked(),
        pytest.raises(ArtifactError, match="is in use by process"),
        SweepFolder(tmp_path).locked(),
    ):
        pass
    with folder.locked():  # free again
        pass


def test_begun_runs_find_data_that_were_moved(tmp_path: Path) -> None:
    rows = [f"u{user},i{item},{user + item}" for user in range(12) for item in range(8)]
    (tmp_path / "here" / "shop").mkdir(parents=True)
    text = "user_id,item_id,timestamp\n" + "\n".join(rows)
    (tmp_path / "here" / "shop" / "interactions.csv").write_text(text)
    items = "item_id,title\n" + "\n".join(
        f"i{item},Film {'abcdefgh'[item] * 4}" for item in range(8)
    )
    (tmp_path / "here" / "shop" / "items.csv").write_text(items)
    small = SMALL.replace("negatives = 20", "negatives = 1").replace("dim = 8", "dim = 4")
    data = "base.training.rounds = 30\nbase.data.source = 'shop'\n"
    path = write_grid(tmp_path, f"{data}seeds = [0]\n{small[small.index('[base.items]') :]}")

    def run(place: str) -> Summary:
        grid = read_grid(path, tmp_path / place)
        cells = grid.cells()
        return sweep(grid, cells, cells, tmp_path / "out", Watch(), jobs=1, memory=10**9, how=How())

    assert run("here").failed == []
    [folder] = (tmp_path / "out" / "runs").iterdir()
    (folder / "result.json").unlink()  # as after a kill before its end
    (tmp_path / "here").rename(tmp_path / "there")
    moved = run("there")
    assert moved.failed == []
    assert moved.done == 1
    assert str(tmp_path / "there") in (folder / "config.toml").read_text()


def test_a_folder_of_another_grid_is_left_alone(tmp_path: Path) -> None:
    facts = tmp_path / "out" / "sweep.json"
    facts.parent.mkdir()
    facts.write_text('{"name": "other"}')
    grid = write_grid(tmp_path, f"seeds = [0]\n{SMALL}{STRATEGIES}")
    done = fedpeft("sweep", str(grid), "--out", str(facts.parent))
    assert done.code == 2
    assert "holds the sweep of 'other', not of 'grid'; choose another --out" in done.err
    assert [path.name for path in facts.parent.iterdir()] == ["sweep.json"]


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"a": 1}', '{"a": {"x": 1}}'])
def test_a_damaged_state_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"state\.json is damaged"):
        SweepFolder(tmp_path)


def test_the_command_makes_the_same_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what a shell needs where the sweep was begun, whatever the names."""
    text = "base.training.rounds = 1\n" + SMALL + '[axes]\n"adapter.rank" = [2]\n'
    (tmp_path / "my grids").mkdir()
    (tmp_path / "data sets").mkdir()
    (tmp_path / "my grids" / "it's.toml").write_text(text, encoding="utf-8")
    (tmp_path / "-x.toml").write_text(text, encoding="utf-8")
    (tmp_path / "here").mkdir()
    for folder, words, expected in (
        (tmp_path, ["my grids/it's.toml"], ["my grids/it's.toml"]),
        (tmp_path, [str(tmp_path / "my grids" / "it's.toml")], ["my grids/it's.toml"]),
        (tmp_path, ["./-x.toml", "--data", "data sets", "--out", "a b"], None),
        (tmp_path / "here", ["../my grids/it's.toml", "--data", "../data sets"], None),
    ):
        monkeypatch.chdir(folder)
        done = fedpeft("sweep", *words, "--jobs", "1", "--json")
        assert done.code == 0, done.err
        out = Path(json.loads(done.out)["folder"])
        facts = json.loads((out / "sweep.json").read_text(encoding="utf-8"))
        command = shlex.split(facts["command"])
        assert command == ["fedpeft", "sweep", *(words if expected is None else expected)]
        assert facts["grid"] == text
        before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("result.json")}
        again = fedpeft(*command[1:], "--json")
        assert json.loads(again.out)["folder"] == str(out)
        assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing is left to do
