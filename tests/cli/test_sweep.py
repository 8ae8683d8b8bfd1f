"""`fedpeft sweep` and `fedpeft report` refuse bad input with one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from .tools import fedpeft

GRID = "axes.preset = ['paper', 'fedpeft']\n"

BAD = {
    "sweep none.toml": "config file none.toml does not exist",
    "sweep grid.toml --memory 0": "--memory 0 must be a number of GB above 0",
    "sweep grid.toml --memory inf": "--memory inf must be a number of GB above 0",
    "sweep grid.toml --memory nan": "--memory nan must be a number of GB above 0",
    "sweep grid.toml --out run": "run is the folder of a run; choose another --out for the sweep",
    "report run --out s.jsonl --records s.jsonl": "s.jsonl holds records; choose another --out",
    "sweep grid.toml --jobs 0": "--jobs",
    "sweep grid.toml --only other": "--only other: no cell has this label; there are paper, fed",
    "sweep grid.toml --out grid.toml": "grid.toml cannot be a sweep folder because it is a file",
    "sweep grid.toml --device gpu": "device 'gpu' is not here; use auto, cpu or cuda",
    "report none": "none is neither a sweep folder, nor a run folder, nor a .jsonl file",
    "report . --out .": ". is a folder; name the file to write",
    "report run --drop": "--drop is about the file of --records; name it",
    "report run --records s.jsonl": "--records is for sweeps; a run has its result.json",
}


@pytest.mark.parametrize(("line", "said"), BAD.items(), ids=list(BAD))
def test_bad_input(line: str, said: str, run: Path) -> None:
    Path("grid.toml").write_text(GRID)
    done = fedpeft(*line.split())
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not Path("runs").exists()


def test_report_of_a_run(run: Path) -> None:
    (run / "report.html").unlink()
    done = fedpeft("report", run)
    assert done.code == 0, done.err
    assert (run / "report.html").stat().st_size > 10_000
