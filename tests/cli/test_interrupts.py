"""Runs that are stopped or killed go on to the result of a run that never was."""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedpeft.cli.console import LineWatcher
from fedpeft.errors import Interrupted
from fedpeft.experiment import Schedule, configure, resume, start
from fedpeft.experiment.signals import StopRequest
from fedpeft.simulation import RoundResult, RunOptions

from .conftest import ROUNDS
from .tools import SMALL, fedpeft, lasting, program

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
KINDS = {
    "lora": [],
    "hash, int8": ["adapter.kind=hash", "training.encoding=int8", "training.refresh_every=7"],
    "paper": ["preset=paper", "training.warmup_rounds=4"],
}
LONG = [*SMALL, "--seed", "3", "--rounds", "400", "--set", "evaluation.every=50"]


class Stopper(LineWatcher):
    """Sends this process a signal during a round."""

    def __init__(self, number: signal.Signals, at: int) -> None:
        super().__init__()
        self._number, self._at = number, at

    def round(self, result: RoundResult) -> None:
        if result.entry.round == self._at:
            os.kill(os.getpid(), self._number)


@pytest.fixture(scope="module")
def long(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that was long enough to be hit, and was not."""
    folder = tmp_path_factory.mktemp("runs") / "long"
    done = fedpeft("run", *LONG, "--out", folder)
    assert done.code == 0, done.err
    return folder


@pytest.mark.parametrize(
    ("kind", "number", "at"),
    [
        ("lora", signal.SIGINT, 0),
        ("lora", signal.SIGTERM, 16),
        ("hash, int8", signal.SIGINT, 16),
        ("paper", signal.SIGTERM, 3),
    ],
)
def test_stopped_between_rounds(kind: str, number: signal.Signals, at: int, here: Path) -> None:
    settings = [*SMALL[1::2], "evaluation.centralised_baseline=false", *KINDS[kind]]
    config = configure(rounds=20, seed=3, settings=settings)
    options, schedule = RunOptions(), Schedule(checkpoint_every=8)
    start(config, here / "whole", options, LineWatcher(), schedule)
    handlers = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(Interrupted, match=f"stopped by {number.name}"):
        start(config, here / "stopped", options, Stopper(number, at), schedule)
    assert [signal.getsignal(each) for each in SIGNALS] == handlers
    lines = (here / "stopped" / "traffic.jsonl").read_text().splitlines()
    assert len(lines) == at + 1  # the checkpoint is of the round in which the signal came
    resume(here / "stopped", RunOptions(), LineWatcher(), schedule)
    for folder in ("stopped", "whole"):
        (here / folder / "report.html").touch()
    assert lasting(here / "stopped") == lasting(here / "whole")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_stopped_from_outside(number: signal.Signals, long: Path, here: Path) -> None:
    child = subprocess.Popen(
        program("run", *LONG, "--out", "stopped run"), stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    before = []
    for line in child.stderr:
        before.append(line)
        if line.startswith("round 50/400"):
            child.send_signal(number)
            break
    _, rest = child.communicate()
    assert child.returncode == 130, (before, rest)
    assert rest.splitlines()[-1] == (
        f"fedpeft: stopped by {number.name}; go on with: fedpeft run --resume 'stopped run'"
    )
    assert "Traceback" not in rest
    folder = here / "stopped run"
    assert not (folder / "result.json").exists()
    rounds = len((folder / "traffic.jsonl").read_text().splitlines())
    assert 50 <= rounds < 400
    done = fedpeft("run", "--resume", folder)
    assert done.code == 0, done.err
    assert f"training from round {rounds} on cpu" in done.err
    assert lasting(folder) == lasting(long)


def test_a_closed_terminal(long: Path, here: Path) -> None:
    """It sends SIGHUP, and refuses what the run still has to say."""
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under `nohup`
        command = program("run", *LONG, "--out", "stopped")
        os.execv(command[0], command)
    shown = b""
    while b"NDCG@10" not in shown:  # the bar has one from the first evaluation on
        shown += os.read(terminal, 4096)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    rounds = len((here / "stopped" / "traffic.jsonl").read_text().splitlines())
    assert 50 <= rounds < 400
    done = fedpeft("run", "--resume", here / "stopped")
    assert f"training from round {rounds} on cpu" in done.err
    assert lasting(here / "stopped") == lasting(long)


def test_nohup_stays_in_force() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            stop.check()
    finally:
        signal.signal(signal.SIGHUP, before)


# Replaces the moment a file appears in the run folder by the death of the process: just before
# (the new content lies beside it in a temporary file) or just after.
KILLER = """
import os, signal, sys
from pathlib import Path
from fedpeft.cli import main

name, when, number = {name!r}, {when!r}, {number}
appear = Path.replace

def die(self, target):
    global number
    if Path(target).name != name:
        return appear(self, target)
    number -= 1
    if number == 0 and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    appear(self, target)
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)

Path.replace = die
sys.argv[0] = "fedpeft"
main()
"""

KILLS = [
    # file, before or after it appears for the n-th time, rounds that a resume starts from
    ("state.safetensors", "before", 2, 8),
    pytest.param("state.safetensors", "before", 1, 0, marks=pytest.mark.slow),
    pytest.param("state.safetensors", "after", 2, 16, marks=pytest.mark.slow),
    pytest.param("state.safetensors", "after", 4, ROUNDS, marks=pytest.mark.slow),
    pytest.param("adapter.json", "before", 1, ROUNDS, marks=pytest.mark.slow),
    pytest.param("result.json", "before", 1, ROUNDS, marks=pytest.mark.slow),
    pytest.param("result.json", "after", 1, None, marks=pytest.mark.slow),
    pytest.param("report.html", "before", 1, None, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "when", "number", "rounds"), KILLS)
def test_killed_while_writing(
    name: str, when: str, number: int, rounds: int | None, finished: Path, here: Path
) -> None:
    code = KILLER.format(name=name, when=when, number=number)
    words = [*SMALL, "--rounds", str(ROUNDS), "--seed", "3", "--checkpoint-every", "8"]
    command = [sys.executable, "-c", code, "run", *words, "--out", "killed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = list((here / "killed").rglob(".*.tmp"))
    assert len(left) == (when == "before")
    done = fedpeft("run", "--resume", "killed")
    assert done.code == 0, done.err
    if rounds is None:  # only the report was missing
        assert "training" not in done.err
    else:
        assert f"training {f'from round {rounds} ' if rounds else ''}on cpu" in done.err
    assert lasting(here / "killed") == lasting(finished)
    assert (here / "killed" / "report.html").stat().st_size > 10_000
    assert done.out  # the table


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again(seed: int, long: Path, here: Path) -> None:
    """Kill at random moments, several times, then let it finish."""
    rng = random.Random(seed)
    every = ["--checkpoint-every", "20"]
    command = ["run", *LONG, "--out", "killed", *every]
    folder = here / "killed"
    for _ in range(4):
        child = subprocess.Popen(program(*command), stderr=subprocess.PIPE, text=True)
        assert child.stderr is not None
        for line in child.stderr:  # past the start, which takes longer than the rest
            if line.startswith("training"):
                break
        time.sleep(rng.uniform(0, 0.7))
        child.kill()
        child.communicate()
        if (folder / "config.toml").exists():
            command = ["run", "--resume", "killed", *every]
        if (folder / "result.json").exists():
            break
    if not (folder / "report.html").exists():
        done = fedpeft(*command)
        assert done.code == 0, done.err
    assert lasting(folder) == lasting(long)


@pytest.mark.parametrize("number", SIGNALS)
def test_second_signal_does_not_wait(number: signal.Signals) -> None:
    """Where the round in progress does not end, a second signal takes its usual course."""
    usual: list[int] = []
    before = signal.signal(number, lambda received, _: usual.append(received))
    try:
        with StopRequest() as stop:
            stop.check()
            os.kill(os.getpid(), number)
            assert usual == []
            os.kill(os.getpid(), number)
            assert usual == [number]
            with pytest.raises(Interrupted, match=f"stopped by {number.name}"):
                stop.check()
    finally:
        signal.signal(number, before)


def test_no_handlers_outside_the_main_thread() -> None:
    with ThreadPoolExecutor() as pool:
        assert pool.submit(_enter).result() is True


def _enter() -> bool:
    with StopRequest() as stop:
        stop.check()
    return True
