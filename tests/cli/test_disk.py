"""Run folders on real disks: shared, full, cut off, watched by others."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from fedpeft.errors import RunError
from fedpeft.experiment import Schedule, configure, start
from fedpeft.simulation import RoundResult, RunOptions, Simulation

from . import spoilt
from .conftest import ROUNDS
from .test_interrupts import Stopper
from .tools import SMALL, fedpeft, lasting, process, program, tree


def limited(size: int, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that can write no file beyond a size, which stands in for a full disk."""
    return subprocess.run(
        program(*words),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )


@pytest.mark.parametrize(
    ("size", "file"),
    [(1000, "asked.toml"), (4600, "checkpoint/state.safetensors"), (20_000, "result.json")],
)
def test_a_full_disk_is_one_sentence(size: int, file: str, here: Path) -> None:
    done = limited(size, "run", *SMALL, "--rounds", "3", "--out", "new", cwd=here)
    assert done.returncode == 3, done.stderr
    assert done.stderr.splitlines()[-1] == f"fedpeft: new/{file}: File too large"
    assert "Traceback" not in done.stderr
    assert not (here / "new" / file).exists()
    assert not list(here.rglob("*.tmp"))
    assert not list(here.rglob("lock"))
    assert (here / "new").exists() == (file != "asked.toml")


def test_a_full_disk_costs_no_round_that_was_saved(here: Path, finished: Path) -> None:
    words = [*SMALL, "--rounds", str(ROUNDS), "--seed", "3", "--checkpoint-every", "8"]
    done = limited(16_000, "run", *words, "--out", "new", cwd=here)
    assert done.returncode == 3
    assert fedpeft("run", "--resume", "new").code == 0
    assert lasting(here / "new") == lasting(finished)


def test_a_folder_in_use_is_refused(finished: Path, here: Path) -> None:
    every = ["--checkpoint-every", "20"]
    command = program("run", *SMALL, "--rounds", "100000", "--out", "new", *every)
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("round"):
            break
    done = process("run", "--resume", "new", *every, cwd=here)
    said = f"fedpeft: new is in use by process {child.pid}; wait for it to end\n"
    assert (done.code, done.err) == (2, said)
    child.send_signal(signal.SIGTERM)
    child.communicate()
    assert child.returncode == 130
    lines = (here / "new" / "traffic.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == list(range(len(lines)))
    child = subprocess.Popen(program("run", "--resume", "new"), stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    assert f"training from round {len(lines)} on" in "".join(
        line for line, _ in zip(child.stderr, range(3), strict=False)
    )
    child.kill()
    child.communicate()


@pytest.mark.parametrize("left", [1000, 0, None], ids=["cut", "empty", "gone"])
def test_a_log_that_lost_its_tail_costs_lines(left: int | None, run: Path, finished: Path) -> None:
    """The run goes on to the same result, and says what it lacks."""
    spoilt.unfinished(run.parent)
    log = run / "traffic.jsonl"
    kept = log.read_bytes()[:left].count(b"\n") if left is not None else 0
    assert kept < ROUNDS
    log.unlink() if left is None else os.truncate(log, left)
    done = fedpeft("run", "--resume", "run")
    assert done.code == 0, done.err
    said = f"run/traffic.jsonl has lost {ROUNDS - kept} of its {ROUNDS} lines, perhaps when the "
    assert [line for line in done.err.splitlines() if "lost" in line] == [
        f"{said}power failed; the run goes on without them"
    ]
    assert len(log.read_text().splitlines()) == kept
    assert lasting(run)["result"] == lasting(finished)["result"]
    assert fedpeft("compare", "run", finished).code == 0


def test_more_rounds_follow_a_log_that_lost_its_tail(here: Path) -> None:
    stopped, options = here / "stopped", RunOptions()
    config = configure(rounds=12, seed=3, settings=SMALL[1::2])
    with pytest.raises(Exception, match="stopped"):
        start(config, stopped, options, Stopper(signal.SIGTERM, 6), Schedule())
    for name in ("traffic.jsonl", "metrics.jsonl"):
        os.truncate(stopped / name, (stopped / name).stat().st_size - 20)
    done = fedpeft("run", "--resume", stopped)
    assert "traffic.jsonl has lost 1 of its 7 lines" in done.err
    assert "metrics.jsonl has lost 1 of its 1 lines" in done.err
    lines = (stopped / "traffic.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert fedpeft("report", stopped).code == 0


@pytest.mark.parametrize(("mask", "others"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_permissions(mask: int, others: int, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPEFT_CACHE", str(here / "cache"))  # the item model is linked from it
    before = os.umask(mask)
    try:
        assert fedpeft("run", *SMALL, "--rounds", "2", "--out", "new").code == 0
    finally:
        os.umask(before)
    private = {"users.parquet", "histories.parquet", "checkpoint/state.safetensors"}
    for name in tree(here / "new"):
        path = here / "new" / name
        if path.is_file():
            wanted = 0o600 if name in private else others
            assert stat.S_IMODE(path.stat().st_mode) == wanted, name


class Spoiler(Stopper):
    """Makes a client's local parameters NaN after a round."""

    def __init__(self, at: int) -> None:
        super().__init__(signal.SIGTERM, -1)
        self._when = at

    def started(self, simulation: Simulation) -> None:
        super().started(simulation)
        self._spoilt = simulation

    def round(self, result: RoundResult) -> None:
        if result.entry.round == self._when:
            next(iter(self._spoilt.population.local.values()))[0] = float("nan")


def test_a_state_that_is_not_finite_leaves_the_last_checkpoint(here: Path) -> None:
    config = configure(rounds=20, seed=3, settings=[*SMALL[1::2], "evaluation.every=50"])
    said = "became infinite or NaN, so no checkpoint was written; the last one stays"
    with pytest.raises(RunError, match=said):
        start(config, here / "new", RunOptions(), Spoiler(11), Schedule(checkpoint_every=4))
    state = load_file(here / "new" / "checkpoint" / "state.safetensors")
    assert all(tensor.isfinite().all() for tensor in state.values())
    done = fedpeft("run", "--resume", "new")
    assert done.code == 0, done.err
    assert "training from round 8 on" in done.err
