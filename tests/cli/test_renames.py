"""Options and keys of earlier versions: they work, and one line tells the new name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .tools import SMALL, fedpeft


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--recipe", "paper"], "--recipe is called --preset now"),
        (["--plan", "sequential"], "--plan is called --backend now"),
        (["--plan", "loop"], "--plan loop is called --backend sequential now"),
        (["--backend", "loop"], "--backend loop is called --backend sequential now"),
        (["--set", "recipe=paper"], "recipe is called preset now"),
        (
            ["--set", "training.private_decay=0.5"],
            "training.private_decay is called training",
        ),
    ],
)
def test_old_names(words: list[str], line: str, tmp_path: Path) -> None:
    out = tmp_path / "new"
    done = fedpeft("run", *SMALL, "--rounds", "1", *words, "--out", out, "--json")
    assert done.code == 0, done.err
    told = [each for each in done.err.splitlines() if each.startswith("fedpeft: ")]
    assert len(told) == 1
    assert told[0].startswith(f"fedpeft: {line}")
    assert told[0].endswith("now; the old name works until the next release")
    result = json.loads(done.out)
    assert result["preset"] == ("paper" if "paper" in words[-1] else "fedpeft")


def test_help_shows_present_names() -> None:
    shown = fedpeft("run", "--help").out
    assert "--preset" in shown
    assert "--recipe" not in shown
    assert "--plan" not in shown
