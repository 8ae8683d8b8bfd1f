"""What goes to standard output and what to standard error, in pipes and in terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedpeft import __version__

from . import spoilt
from .tools import SMALL, fedpeft, process, program

VERBS: dict[str, list[str]] = {
    "run": ["run", *SMALL, "--rounds", "6", "--out", "new"],
    "evaluate": ["evaluate", "run"],
    "compare": ["compare", "run"],
    "recommend": ["recommend", "run", "--user", "user-0"],
    "list": ["data", "list"],
    "describe": ["data", "describe", "--set", "data.synthetic.users=50"],
    "doctor": ["doctor"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_json(verb: str, run: Path, here: Path) -> None:
    done = fedpeft(*VERBS[verb], "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)  # one document and nothing else
    assert not set(map(ord, done.out + done.err)) & (set(range(32)) - {10})


@pytest.mark.parametrize("verb", VERBS)
def test_plain_text_in_a_pipe(verb: str, run: Path, here: Path) -> None:
    done = fedpeft(*VERBS[verb])
    assert done.code == 0, done.err
    assert done.out
    assert not set(map(ord, done.out + done.err)) & (set(range(32)) - {10})


def test_json_result_is_the_file(here: Path) -> None:
    told: dict[str, Any] = json.loads(fedpeft(*VERBS["run"], "--json").out)
    assert told.pop("folder") == "new"
    assert told == json.loads((here / "new" / "result.json").read_text())


def test_progress_in_lines(here: Path) -> None:
    lines = fedpeft(*VERBS["run"]).err.splitlines()
    assert lines[2] == "synthetic: 631 interactions, of 60 users with 80 items"
    assert lines[3] == "training on cpu with the vmap backend, 6 of 60 clients a round"
    assert [line.split()[1] for line in lines if line.startswith("round ")] == ["5/6", "6/6"]
    assert lines[-1] == "report: new/report.html"


def test_numbers_are_whole_in_a_pipe(run: Path, here: Path) -> None:
    long = run.rename(here / ("a-run-with-a-long-name-" * 5))
    (here / "b").symlink_to(long)
    told = json.loads(fedpeft("compare", long, "b", "--json").out)["runs"]
    shown = fedpeft("compare", long, "b").out
    assert all(row["label"] in shown for row in told)
    assert all(f"{row['total_bytes'] / 1e6:.3f}" in shown for row in told)


def test_bars_in_a_terminal(here: Path, cache: Path) -> None:
    """A terminal on standard error gets progress bars; folder names are no markup."""
    (here / "[/odd]").mkdir(parents=True)
    spoilt.table(here / "[/odd]")
    words = ("--set", "evaluation.negatives=5", "--set", "items.base=svd", "--rounds", "20")
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        program("run", "--data", "[/odd]/data", *words, "--out", "new"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # Linux says so when the other end is closed
        pass
    out, _ = child.communicate()
    os.close(ours)
    assert child.returncode == 0, shown
    assert b"20/20" in shown
    assert b"\x1b[" in shown
    assert b"\x1b[" not in out


def test_closed_pipe(run: Path, here: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        program("recommend", "run", "--user", "user-0"),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert "Traceback" not in done.stderr
    assert done.returncode != 0


def test_version() -> None:
    assert fedpeft("--version").out == f"fedpeft {__version__}\n"


@pytest.mark.parametrize("words", [(), ("data",)])
def test_nothing_asked(words: tuple[str, ...]) -> None:
    done = fedpeft(*words)
    assert done.code == 2
    assert "Usage: fedpeft" in done.out + done.err


@pytest.mark.parametrize("verb", [[], ["run"], ["data", "get"], ["recommend"]])
def test_help(verb: list[str]) -> None:
    done = fedpeft(*verb, "--help")
    assert done.code == 0
    assert f"Usage: {' '.join(['fedpeft', *verb])}" in done.out


def test_loss_that_grows_beyond_bounds(here: Path) -> None:
    """What fails later than at its input ends with exit code 3 and a sentence as well."""
    words = (
        "--adapter",
        "full",
        "--set",
        "training.server_optimizer.lr=1e30",
        "--rounds",
        "8",
        "--out",
        "new",
    )
    done = fedpeft("run", *SMALL, *words)
    assert done.code == 3
    last = done.err.splitlines()[-1]
    assert re.match(
        r"fedpeft: no upload of \d+ rounds in a row was finite, up to round \d+; ", last
    )
    assert last.endswith("lower the learning rates (training.server_optimizer.lr, "
                         "training.local_optimizer.lr)")  # fmt: skip


def test_unwritable_cache(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "cache").write_text("a file")
    monkeypatch.setenv("FEDPEFT_CACHE", str(here / "cache"))
    done = fedpeft(*VERBS["run"])
    assert done.code == 2
    assert re.fullmatch(
        f"fedpeft: cache folder {here}/cache cannot be written \\(.+\\); set FEDPEFT_CACHE to a "
        "folder that can",
        done.err.splitlines()[-1],
    )
    assert not (here / "new").exists()


def test_console_script(here: Path) -> None:
    """The program as it is installed."""
    installed = Path(sys.executable).parent / "fedpeft"
    if not installed.exists():
        pytest.skip("fedpeft is not installed beside this Python")
    done = subprocess.run([installed, "--version"], capture_output=True, text=True, check=False)
    assert done.stdout == f"fedpeft {__version__}\n"
    assert process("--version", cwd=here).out == done.stdout
