"""Logs: what a flush promises, what a crash may cost, what a reader copes with."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.errors import ArtifactError
from fedpeft.records import Log, TrafficRound, read_log

FILE = TrafficRound.FILE


def line(number: int) -> TrafficRound:
    return TrafficRound(
        round=number,
        phase="adapt",
        clients=3,
        upload=30,
        download=30,
        initial_download=0,
        resync=0,
        bytes_per_client=20.0 * (number + 1),
        event=None,
    )


def written(folder: Path, rounds: int) -> Log[TrafficRound]:
    log = Log(TrafficRound, folder)
    for number in range(rounds):
        log.add(line(number))
    log.flush()
    return log


def test_lines_reach_the_disk_at_a_flush(tmp_path: Path) -> None:
    log = Log(TrafficRound, tmp_path)
    log.add(line(0))
    assert not log.path.exists()
    log.flush()
    log.add(line(1))
    assert read_log(TrafficRound, tmp_path) == (line(0),)
    log.flush()
    assert read_log(TrafficRound, tmp_path) == (line(0), line(1))
    assert [json.loads(text)["schema"] for text in log.path.read_text().splitlines()] == [2, 2]


def test_lines_and_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint that comes after a flush must not be all that a power cut leaves."""
    synced: list[str] = []
    sync = os.fsync

    def note(handle: int) -> None:
        sync(handle)
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))

    monkeypatch.setattr(os, "fsync", note)
    written(tmp_path, 1)
    assert synced == [str(tmp_path / FILE), str(tmp_path)]


@given(rounds=st.integers(0, 6), left=st.floats(0, 1), to=st.integers(0, 7))
def test_rewinding_keeps_the_lines_that_are_there(
    rounds: int, left: float, to: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Wherever a log was cut, whole lines of rounds that were done stay, and more follow."""
    folder = tmp_path_factory.mktemp("run")
    log = written(folder, rounds)
    size = int(left * log.path.stat().st_size)
    whole = log.path.read_bytes()[:size].count(b"\n")
    os.truncate(log.path, size)
    log = Log(TrafficRound, folder)
    kept = log.rewind(to)
    assert kept == min(whole, to)
    log.add(line(to))
    log.flush()
    assert [found.round for found in read_log(TrafficRound, folder)] == [*range(kept), to]


@pytest.mark.parametrize("tail", [b"\0" * 300, b"{}\n", b'{"round": 5}\n', b"\xff\xfe\n"])
def test_rewinding_drops_what_is_no_line(tail: bytes, tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    with log.path.open("ab") as file:
        file.write(tail)
    assert log.rewind(10) == 3
    assert read_log(TrafficRound, tmp_path) == tuple(map(line, range(3)))


def test_rewinding_drops_what_a_second_process_wrote(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    written(tmp_path, 4)
    assert log.rewind(10) == 3


def test_rewinding_a_log_that_is_gone(tmp_path: Path) -> None:
    assert Log(TrafficRound, tmp_path).rewind(4) == 0
    assert read_log(TrafficRound, tmp_path) == ()


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fedpeft.records import Log, TrafficRound\n"
        "log = Log(TrafficRound, Path(sys.argv[1]))\n"
        "for _ in range(99): log.add(TrafficRound(**eval(sys.argv[2])))\n"
        "try: log.flush()\n"
        "except OSError as error: print(error.filename, error.strerror)\n"
    )
    log = written(tmp_path, 3)
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path, repr(line(3).model_dump())],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert done.stdout == f"{log.path} File too large\n"
    assert log.path.stat().st_size < 1000
    assert read_log(TrafficRound, tmp_path) == tuple(map(line, range(3)))


def test_a_log_of_neither_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"traffic\.jsonl does not exist"):
        read_log(TrafficRound, tmp_path)
