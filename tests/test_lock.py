"""One process a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedpeft.errors import ArtifactError
from fedpeft.lock import locked

HOLDER = """
import sys, time
from pathlib import Path
from fedpeft.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    with locked(tmp_path):
        with (
            pytest.raises(ArtifactError, match=f"{tmp_path} is in use by process {os.getpid()}"),
            locked(tmp_path),
        ):
            pass
        assert (tmp_path / "lock").exists()  # the refusal left it
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        pass


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(ArtifactError, match=f"in use by process {child.pid}"), locked(tmp_path):
        pass
    child.kill()
    child.communicate()
    assert (tmp_path / "lock").exists()
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []


def test_who_inherits_the_lock_holds_it(tmp_path: Path) -> None:
    with locked(tmp_path) as handle:
        child = subprocess.Popen(["sleep", "60"], pass_fds=[handle])
        os.rename(tmp_path / "lock", tmp_path / "kept")  # as if this process was killed
    os.rename(tmp_path / "kept", tmp_path / "lock")
    with pytest.raises(ArtifactError, match="in use"), locked(tmp_path):
        pass
    child.kill()
    child.wait()
    with locked(tmp_path):
        pass
