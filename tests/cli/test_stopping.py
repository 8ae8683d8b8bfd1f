"""Ctrl-C, SIGTERM and a full disk, wherever they come: one sentence, and an exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedpeft.cli.console import LineWatcher
from sweep import grids

from .test_disk import limited
from .tools import SMALL, fedpeft, program

STAGES = {
    "reading": False,
    "pretraining": False,
    "evaluating on test": True,
    "writing the report": True,
}
"""What a run says before it is stopped, and whether it has a folder then."""

GRID = f"""
seeds = [0]
[base]
training.rounds = 3
{grids.SMALL}
[axes]
"adapter.kind" = ["lora", "hash"]
"""


def stopping(number: signal.Signals, *_: object, **__: object) -> None:
    """Stand in for a function in which the signal comes."""
    signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("stage", STAGES)
def test_outside_the_rounds(
    stage: str, number: signal.Signals, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = LineWatcher.stage

    def told(watcher: LineWatcher, text: str) -> None:
        tell(watcher, text)
        if text.startswith(stage):
            signal.raise_signal(number)

    monkeypatch.setattr(LineWatcher, "stage", told)
    usual = signal.getsignal(number)
    if usual == signal.SIG_IGN:
        pytest.skip("the tests run where this signal is ignored")
    done = fedpeft("run", *SMALL, "--rounds", "3", "--out", "new")
    assert signal.getsignal(number) == usual
    assert done.code == 130
    assert done.out == ""
    last = done.err.splitlines()[-1]
    assert (here / "new").exists() == STAGES[stage]
    assert not list(here.rglob("*.tmp"))
    if not STAGES[stage]:
        assert last == "fedpeft: stopped"
        return
    assert last == "fedpeft: stopped; go on with: fedpeft run --resume new"
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert fedpeft("run", "--resume", "new").code == 0


COMMANDS = {
    "recommend run --user user-0": "fedpeft.experiment.recommend.read",
    "evaluate run": "fedpeft.cli.results.reopen",
    "compare run": "fedpeft.report.read_run",
    "report run": "fedpeft.report.read_run",
    "export run": "fedpeft.experiment.export._exported",
    "traffic run --user user-0 --round 1": "fedpeft.experiment.replay.prepare",
    "sweep grid.toml": "fedpeft.sweep.read_grid",
    "data describe": "fedpeft.data.load",
    "cost": "fedpeft.cost.costs",
    "doctor": "fedpeft.cli.doctor.examine",
}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command(line: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("grid.toml").write_text(GRID)
    monkeypatch.setattr(COMMANDS[line], lambda *_, **__: stopping(signal.SIGINT))
    done = fedpeft(*line.split())
    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines()[-1] == "fedpeft: stopped"
    assert not list(run.parent.rglob("*.tmp"))


def test_while_libraries_are_imported() -> None:
    code = """
import signal, sys

class Stop:
    def find_spec(self, name, *_):
        if name == "torch":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Stop())
from fedpeft.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "fedpeft: stopped\n")


def test_a_sweep_while_runs_begin(here: Path) -> None:
    """The processes of a sweep end with it, also before their first round."""
    (here / "grid.toml").write_text(GRID)
    child = subprocess.Popen(
        program("sweep", "grid.toml", "--out", "sweep", "--jobs", "1"),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    said = child.stderr.readline()
    assert said.startswith("started")
    child.send_signal(signal.SIGINT)
    _, rest = child.communicate(timeout=120)
    assert child.returncode == 130
    assert rest.splitlines()[-1] == ("fedpeft: stopped by SIGINT; the same command goes on")
    assert "Traceback" not in rest
    assert not list((here / "sweep").rglob("lock"))
    done = fedpeft("sweep", "grid.toml", "--out", "sweep", "--jobs", "1", "--memory", "8")
    assert done.code == 0, done.err


def test_a_full_disk_in_a_sweep_is_the_reason_of_a_cell(here: Path) -> None:
    (here / "grid.toml").write_text(GRID)
    assert fedpeft("data", "describe").code == 0
    words = ("sweep", "grid.toml", "--out", "sweep", "--jobs", "1", "--memory", "8")
    done = limited(4600, *words, cwd=here)
    assert "Traceback" not in done.stderr
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert done.returncode == 2, done.stderr
    assert len(failed) == 2
    assert all("/checkpoint/state.safetensors: File too large" in line for line in failed)
    assert fedpeft(*words).code == 0  # with room again


def test_a_full_cache_is_one_sentence(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPEFT_CACHE", str(here / "cache"))
    done = limited(3000, "run", *SMALL, "--rounds", "1", "--out", "new", cwd=here)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(
        f"fedpeft: cache folder {here}/cache cannot be written (File too large)"
    )
    assert not (here / "new").exists()
    assert not list(here.rglob("*.tmp"))


@pytest.mark.parametrize(
    "words",
    [["doctor"], ["compare", "run"], ["recommend", "run", "--user", "user-0"]],
    ids=["doctor", "compare", "recommend"],
)
def test_standard_output_on_a_full_disk(words: list[str], run: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            program(*words), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == ("fedpeft: standard output: No space left on device")
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("words", "size", "said"),
    [
        (["report", "run"], 4000, "run/report.html: File too large"),
        (["recommend", "run", "--all", "--out", "all.parquet"], 500, "all.parquet: File too large"),
        (["export", "run", "--out", "x"], 9000, "x/scorer.pt2: File too large"),
    ],
    ids=str,
)
def test_every_file_is_named(words: list[str], size: int, said: str, run: Path) -> None:
    done = limited(size, *words, cwd=run.parent)
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines()[-1] == f"fedpeft: {said}"
    assert not list(run.parent.rglob("*.tmp"))
