"""Broken parts of other packages: they are named, and harm nobody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedpeft import registry
from fedpeft.config import ConfigModel
from fedpeft.errors import ConfigError
from fedpeft.registry import Registry

PARTS = {
    "missing": "import no_such_module",
    "leaving": "import sys\nsys.exit('I need a licence')",
    "taken": "from fedpeft.losses import losses\n"
    "from fedpeft.losses.bpr import BPR, BPRConfig\n"
    "losses.register('bpr', config=BPRConfig, build=BPR)",
    "untyped": "from fedpeft.losses import losses\nlosses.register('hinge', config=dict, build=3)",
    "nowhere": "from fedpeft.losses import losses\n"
    "from fedpeft.losses.bpr import BPR, BPRConfig\n"
    "losses.register('half', config=BPRConfig, build=BPR)\n"
    "raise RuntimeError('half of it')",
    "noisy": "print('hello from a plugin')",
}
"""Modules of the group fedpeft.losses, by the name of their entry point."""

READER = """
from fedpeft.data import DataConfig
from fedpeft.data.readers import readers

class Reader:
    expects = "anything"
    def __init__(self, config): ...
    def recognises(self, folder): raise KeyError("no idea")
    def read(self, folder): ...

readers.register("clueless", config=DataConfig, build=Reader)
"""


def package(site: Path, name: str, points: str) -> None:
    """Install a package by hand."""
    info = site / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(points)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a package for each broken part."""
    site = tmp_path_factory.mktemp("site")
    for name, code in PARTS.items():
        (site / f"{name}_part.py").write_text(code)
        package(site, name, f"[fedpeft.losses]\n{name} = {name}_part\n")
    (site / "clueless_part.py").write_text(READER)
    package(site, "clueless", "[fedpeft.data_readers]\nclueless = clueless_part\n")
    return site


def run(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command line where the packages of a folder are installed."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "fedpeft", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "FEDPEFT_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_built_in_parts_go_on_working(site: Path, tmp_path: Path) -> None:
    small = ("--set", "data.synthetic.users=20", "--set", "items.base=svd", "--rounds", "1")
    done = run(site, tmp_path, "run", "--loss", "bpr", *small, "--out", "new", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rounds"] == 1  # nothing but the result
    assert "hello from a plugin" in done.stderr


def test_a_reader_that_fails_is_not_in_the_way(site: Path, tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text(
        "user_id,item_id,timestamp\n" + "".join(f"u,i{item},{item}\n" for item in range(4))
    )
    (tmp_path / "items.csv").write_text(
        "item_id,title\n" + "".join(f"i{item},Film {item}\n" for item in range(4))
    )
    done = run(site, tmp_path, "data", "describe", ".")
    assert done.returncode == 0, done.stderr
    for name in ("items.csv", "interactions.csv"):
        (tmp_path / name).unlink()
    done = run(site, tmp_path, "data", "describe", ".")
    assert done.returncode == 2
    assert "clueless fails: KeyError: 'no idea'" in done.stderr


def test_whoever_asks_is_told(site: Path, tmp_path: Path) -> None:
    done = run(site, tmp_path, "run", "--loss", "hinge")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 2  # and the greeting of the noisy one
    assert "unknown loss 'hinge'; known are bce, bpr, ials, softmax; " in done.stderr
    assert "'untyped = untyped_part' of fedpeft.losses" in done.stderr
    assert "config = <class 'dict'> must derive from LossConfig" in done.stderr


def test_doctor_names_every_one_with_its_reason(site: Path, tmp_path: Path) -> None:
    done = run(site, tmp_path, "doctor", "--json")
    assert done.returncode == 3
    problems = json.loads(done.stdout)["problems"]
    assert len(problems) == 5
    for name, said in {
        "missing": "ModuleNotFoundError: No module named 'no_such_module'",
        "leaving": "SystemExit: I need a licence",
        "taken": "loss 'bpr' is registered already",
        "untyped": "TypeError: config = <class 'dict'> must derive from LossConfig",
        "nowhere": "RuntimeError: half of it",
    }.items():
        (told,) = (each for each in problems if f"'{name} = {name}_part'" in each)
        assert said in told


class Car(ConfigModel):
    """A part."""


def test_nothing_is_left_of_a_part_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    cars: Registry[Car] = Registry("car", "cars")

    def load() -> None:
        cars.register("half", config=Car, build=Car)
        raise ValueError("torn")

    def sound() -> None:
        cars.register("whole", config=Car, build=Car)

    points = [
        SimpleNamespace(name="half", value="half", load=load),
        SimpleNamespace(name="whole", value="whole", load=sound),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    assert cars.names() == ["whole"]
    with pytest.raises(ConfigError, match=r"unknown car 'half'; known are whole; .*: torn$"):
        cars.get("half")
    assert len(cars.faults()) == 1


def test_a_built_in_name_cannot_be_taken_early() -> None:
    """A package that is imported before the built-in parts does not push one of them out."""
    from fedpeft.losses.base import LossConfig, losses

    with pytest.raises(KeyError, match="loss 'softmax' is registered already"):
        losses.register("softmax", config=LossConfig, build=lambda config: None)
    assert "softmax" in losses.names()


def test_a_signal_while_parts_are_imported_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise KeyboardInterrupt

    points = [SimpleNamespace(name="slow", value="slow", load=load)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.raises(KeyboardInterrupt):
        Registry("car", "cars").names()
