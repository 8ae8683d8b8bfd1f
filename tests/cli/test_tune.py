"""`fedpeft tune`: it searches on validation, writes settings that run, and believes no noise."""

from __future__ import annotations

import json
import signal
import subprocess
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from fedpeft.experiment import Schedule, configure, start
from fedpeft.report.statistics import Interval
from fedpeft.simulation import RunOptions
from fedpeft.sweep.folder import Job, Outcome

from .tools import SMALL, fedpeft, program, tree
from .tools import Outcome as Done

pytest.importorskip("optuna")
SETTINGS = [setting for setting in SMALL[1::2] if not setting.startswith("items.dim")]
QUICK = [word for setting in SETTINGS for word in ("--set", setting)]
TUNE = ("tune", "synthetic", *QUICK, "--preset", "newton", "--set", "training.rounds=3")


class Quiet:
    """Nobody watches."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class InThisProcess:
    """A scheduler that makes one run after the other here, which is faster than processes."""

    made: list[str]

    def __init__(self, folder: Any, budget: Any, how: Any, watcher: Any, lock: int) -> None:
        self._folder, self._watcher = folder, watcher

    def run(self, jobs: Iterable[Job], follow: Any) -> None:
        pending = list(jobs)
        while pending:
            job = pending.pop(0)
            self.made.append(job.name)
            start(job.config, job.folder, RunOptions(device="cpu"), Quiet(), Schedule())
            self._folder.record(job, Outcome(1))
            process = SimpleNamespace(
                job=job, began=0.0, metric=0.5, full=0.25, round=1, rounds=1, first=0
            )
            process.trained_from = 0.0
            self._watcher.ended(process, Outcome(1))
            pending += follow()
            self._watcher.tick([], pending)


@pytest.fixture
def made(here: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run everything in this process; return the names of the runs that were made."""
    monkeypatch.setattr("fedpeft.sweep.run.Scheduler", InThisProcess)
    names: list[str] = []
    monkeypatch.setattr(InThisProcess, "made", names, raising=False)
    return names


def tuned(*words: str) -> Done:
    done = fedpeft(*TUNE, "--jobs", "1", *words)
    assert done.code == 0, done.err
    return done


def test_tune(made: list[str], here: Path) -> None:
    done = tuned("--trials", "3", "--out", "new/tuned.toml", "--json")
    found = json.loads(done.out)
    assert (found["trials"], len(made)) == (3, 3)
    assert found["file"] == "new/tuned.toml"
    assert found["best"] >= found["preset"]
    assert found["gain"]["users"] == 60
    assert found["metric"]["ranking"] == "full"
    text = Path("new/tuned.toml").read_text()
    comment = [line for line in text.splitlines() if line.startswith("#")]
    assert comment[0].startswith("# Written by fedpeft tune: fedpeft tune synthetic --set data.")
    for said in ("fedpeft 0", "split ", "60 users", "3 trials; seeds 0", "test was not read"):
        assert any(said in line for line in comment), said
    config = configure("new/tuned.toml", data="synthetic")
    assert (config.preset, config.training.rounds) == ("newton", 3)
    assert tomllib.loads(text)["training"].keys() >= found["settings"].keys() & {"rounds"}
    # the test part was never read
    results = pl.read_parquet("new/tuned/results.parquet")
    assert not [name for name in results.columns if name.startswith("test.")]
    for folder in Path("new/tuned/runs").iterdir():
        assert json.loads((folder / "result.json").read_text())["metrics"].get("test") is None
        assert not [c for c in pl.read_parquet(folder / "users.parquet").columns if "test" in c]
    # a second call has nothing to run, and one with more trials goes on
    before = tree(Path("new/tuned/runs"))
    again = tuned("--trials", "3", "--out", "new/tuned.toml", "--json")
    assert (again.out, len(made)) == (done.out, 3)
    assert tree(Path("new/tuned/runs")) == before
    tuned("--trials", "4", "--out", "new/tuned.toml")
    assert len(made) == 4
    assert fedpeft("report", "new/tuned").code == 0


def test_the_first_run_is_that_of_the_preset(made: list[str], here: Path) -> None:
    found = json.loads(tuned("--trials", "1", "--out", "one.toml", "--json").out)
    assert found["keeps_preset"]
    words = (
        "--preset",
        "newton",
        "--rounds",
        "3",
        "--out",
        "plain",
        "--set",
        "evaluation.test=false",
    )
    assert fedpeft("run", *QUICK, *words).code == 0
    plain = json.loads(Path("plain/result.json").read_text())
    assert plain["metrics"]["validation"]["full"]["ndcg@10"] == found["preset"]


def low_with_the_preset(job: Job, ranking: str) -> float:
    assert ranking == "sampled"
    return 0.4 if job.config.training.server_optimizer.lr == 1.0 else 0.5


@pytest.mark.parametrize("low", [-0.01, 0.01])
def test_what_is_said(
    low: float, made: list[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedpeft.sweep.tune.interval_of", lambda *_: Interval(0.02, low, 0.05, 60))
    monkeypatch.setattr("fedpeft.sweep.study.objective", low_with_the_preset)
    done = tuned("--trials", "3", "--seed", "1", "--seed", "2", "--metric", "sampled")
    assert len(made) == 6
    keeps = low < 0
    assert ("not beyond their noise, so the preset stays as it is" in done.out) is keeps
    assert "gain +0.0200" in done.out
    assert "3 trials; seeds 1, 2; test was not read" in done.out
    assert "training.frequency_decay: " in done.out
    file = "runs/tuned-synthetic-newton-lora-fedmf.toml"
    assert f"try: fedpeft run {file} --data synthetic" in done.err
    assert "best 0.5000 (+0.1000)" in done.err
    assert "validation NDCG@10 0.5000 (full ranking 0.2500), " in done.err
    written = tomllib.loads(Path(file).read_text())
    assert ("frequency_decay" in written["training"]) is not keeps
    assert fedpeft("run", file, "--data", "synthetic", "--out", "new").code == 0


def test_a_budget(made: list[str], here: Path) -> None:
    """What would not end in time is not begun; the preset is, whatever the time."""
    done = tuned("--budget", "0.000001")
    assert len(made) == 1
    assert "1 trial, 1e-06 minutes" in done.out
    assert "no trial is better than the preset, so it stays as it is" in done.out
    assert "training." not in done.out


BAD: Sequence[tuple[Sequence[str], str]] = (
    (["nowhere"], "data.source = 'nowhere' is neither 'synthetic' nor a folder or a file that"),
    (["synthetic", "--budget", "0"], "--budget 0 must be a number of minutes above 0"),
    (["synthetic", "--budget", "nan"], "--budget nan must be a number of minutes above 0"),
    (["synthetic", "--trials", "0"], "Invalid value for '--trials'"),
    (["synthetic", "--metric", "hr"], "--metric 'hr' must be full or sampled"),
    (["synthetic", "--preset", "none"], "preset = 'none' does not say what is to be tuned"),
    (["synthetic", "--preset", "best"], "preset = 'best': must be one of"),
    (["synthetic", "--out", "new"], "--out new must be a .toml file"),
    (["synthetic", "--out", "own.toml"], "--out own.toml is there, and fedpeft tune has not"),
    (["synthetic", "--out", "folder.toml"], "--out folder.toml is a folder; name a .toml file"),
    (["synthetic", "--out", "file.toml"], "file is a file, but the runs are to go there"),
    (["synthetic", "--device", "gpu"], "device 'gpu' is not here; use auto, cpu or cuda"),
    (["synthetic", "--set", "data.source=data"], "data.source is given as 'synthetic' by its own"),
    (["synthetic", "--config", "none.toml"], "config file none.toml does not exist"),
)


@pytest.mark.parametrize(("words", "sentence"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input(words: Sequence[str], sentence: str, here: Path) -> None:
    Path("own.toml").write_text("seed = 1\n")
    Path("folder.toml").mkdir()
    Path("file").touch()
    before = tree(here)
    done = fedpeft("tune", *words)
    assert done.code == 2
    assert sentence in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert not done.out
    assert tree(here) == before


@pytest.mark.slow
def test_a_stopped_search_goes_on(here: Path) -> None:
    words = (*TUNE, "--trials", "3", "--jobs", "2", "--out", "new.toml")
    child = subprocess.Popen(program(*words), stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    while not child.stderr.readline().startswith("started"):
        pass
    child.send_signal(signal.SIGINT)
    _, rest = child.communicate(timeout=120)
    assert child.returncode == 130
    assert rest.splitlines()[-1] == "fedpeft: stopped by SIGINT; the same command goes on"
    assert not Path("new.toml").exists()
    done = fedpeft(*words, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["trials"] == 3
    assert Path("new.toml").exists()
