"""The run folder: logs that fit the checkpoint, and nothing over something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.experiment import RunFolder, configure
from fedpeft.experiment.folder import commit


def test_logs_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "new", configure())
    folder.log("ledger.jsonl", {"round": 0})
    assert not (folder.path / "ledger.jsonl").exists()  # nothing before the flush
    lengths = folder.flush()
    assert lengths == {"ledger.jsonl": 13, "metrics.jsonl": 0}
    folder.log("ledger.jsonl", {"round": 1})
    folder.log("metrics.jsonl", {"round": 1})
    assert folder.flush() == {"ledger.jsonl": 26, "metrics.jsonl": 13}
    again = RunFolder.open(folder.path)
    again.rewind(lengths)
    assert (folder.path / "ledger.jsonl").read_text() == '{"round": 0}\n'
    assert (folder.path / "metrics.jsonl").read_text() == ""


def test_logs_that_are_shorter_are_refused_whole(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "new", configure())
    folder.log("metrics.jsonl", {"round": 0})
    folder.flush()
    with pytest.raises(ArtifactError, match="has 0 bytes, the checkpoint was made with 9"):
        folder.rewind({"metrics.jsonl": 5, "ledger.jsonl": 9})
    assert (folder.path / "metrics.jsonl").stat().st_size == 13


def test_config_survives(tmp_path: Path) -> None:
    config = configure(adapter="hash", recipe="paper", seed=7)
    assert RunFolder.create(tmp_path, config).config() == config


def test_half_written_files_are_swept(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "new", configure())
    (folder.path / "checkpoint").mkdir()
    for name in (".result.json.abc.tmp", "checkpoint/.state.safetensors.x.tmp", "mine.tmp", "a"):
        (folder.path / name).touch()
    folder.sweep()
    left = {path.name for path in folder.path.rglob("*")}
    assert left == {"config.toml", "checkpoint", "mine.tmp", "a"}


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
