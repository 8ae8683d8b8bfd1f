"""The run folder: logs that fit the checkpoint, and nothing over something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.experiment import RunFolder, configure
from fedpeft.experiment.folder import commit


def test_a_folder_that_stays_empty_is_not_left(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "new").locked():
        RunFolder.require_new(tmp_path / "new")  # its own lock is nothing
    assert list(tmp_path.iterdir()) == []


def test_two_processes_in_one_folder(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "new", configure())
    with (
        folder.locked(),
        pytest.raises(ArtifactError, match=f"new is in use by process {os.getpid()}"),
        RunFolder.open(folder.path).locked(),
    ):
        pass
    assert {path.name for path in folder.path.iterdir()} == {"asked.toml", "config.toml"}


def test_config_survives(tmp_path: Path) -> None:
    config = configure(adapter="hash", preset="paper", seed=7)
    assert RunFolder.create(tmp_path, config).config() == config


def test_half_written_files_are_swept(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "new", configure())
    (folder.path / "checkpoint").mkdir()
    for name in (".result.json.abc.tmp", "checkpoint/.state.safetensors.x.tmp", "mine.tmp", "a"):
        (folder.path / name).touch()
    folder.sweep()
    left = {path.name for path in folder.path.rglob("*")}
    assert left == {"asked.toml", "config.toml", "checkpoint", "mine.tmp", "a"}


def test_new_folders_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=str(path)):
            RunFolder.create(path, configure())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(ArtifactError, match=r"it has no config\.toml"):
        RunFolder.open(tmp_path)


def test_commit_outside_a_repository(tmp_path: Path) -> None:
    """An installed package has no commit, whatever repository the user works in."""
    target = tmp_path / "site" / "fedpeft"
    target.mkdir(parents=True)
    import fedpeft

    source = Path(fedpeft.__file__).parent
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import fedpeft.experiment.folder as f; print(f.__file__, f.commit())"
    )
    subprocess.run(["cp", "-r", *source.iterdir(), target], check=True)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    done = subprocess.run(
        [sys.executable, "-c", code, target.parent],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    file, found = done.stdout.split()
    assert file.startswith(str(target))
    assert found == "None"


def test_commit_here() -> None:
    found = commit()
    assert found is None or len(found.removesuffix("-dirty")) == 40
