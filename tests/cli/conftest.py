"""One finished run that many tests look at, or copy and damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .tools import SMALL, fedpeft

ROUNDS = 30


@pytest.fixture(scope="session")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of 30 rounds; look, do not touch."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    done = fedpeft("run", *SMALL, "--rounds", str(ROUNDS), "--seed", "3", "--out", folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def here(tmp_path: Path, finished: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into an empty folder; return it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here: Path, finished: Path) -> Path:
    """Return a copy of the finished run, called ``run``, in the working directory."""
    return shutil.copytree(finished, here / "run")
