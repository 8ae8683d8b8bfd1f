"""`fedpeft demo` and `fedpeft doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedpeft import __version__
from fedpeft.cli import doctor

from .tools import fedpeft, tree


@pytest.mark.slow
def test_demo(here: Path) -> None:
    mine = here / "demo" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    for _ in range(2):  # a second demo replaces the first
        done = fedpeft("demo", "--rounds", "4", "--out", "demo")
        assert done.code == 0, done.err
        for name in ("Full", "P-LoRA", "P-Hash", "P-RQ", "Popularity"):
            assert any(line.startswith(f" {name}") for line in done.out.splitlines()), done.out
        assert "report: demo/report.html" in done.out + done.err
    assert mine.read_text() == "mine"
    assert {path.name for path in (here / "demo").iterdir()} == {
        *("full", "lora", "hash", "rq", "report.html", "notes.txt")
    }


def test_demo_over_something_else(here: Path) -> None:
    (here / "demo" / "full").mkdir(parents=True)
    (here / "demo" / "full" / "thesis.tex").write_text("years of work")
    before = tree(here)
    done = fedpeft("demo", "--out", "demo")
    assert done.code == 2
    assert "demo/full exists and is not empty" in done.err
    assert tree(here) == before


def test_doctor(here: Path) -> None:
    found = json.loads(fedpeft("doctor", "--json").out)
    assert found["fedpeft"] == __version__
    assert found["devices"][0] == "cpu"
    assert found["problems"] == []
    assert all(found["packages"].values())
    shown = fedpeft("doctor")
    assert shown.code == 0
    assert found["packages"]["torch"] in shown.out


def test_doctor_finds_problems(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "cache").write_text("a file")
    monkeypatch.setenv("FEDPEFT_CACHE", str(here / "cache"))
    monkeypatch.setattr(doctor, "CORE", ("torch", "a-package-that-nobody-wrote"))
    done = fedpeft("doctor")
    assert done.code == 3
    assert done.err.splitlines()[-1] == (
        f"fedpeft: a-package-that-nobody-wrote is not installed; {here}/cache cannot be written to"
    )
