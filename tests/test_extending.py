"""docs/extending.md works word by word: its files are written, its commands run, in its order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
TEXT = PAGE.read_text("utf-8")
INSTALL = "pip install -e ."
COMMAND_LINE = """
import shlex, sys
from fedpeft.cli import main
for line in sys.stdin.read().splitlines():
    sys.argv = shlex.split(line)
    main()
"""


def blocks(language: str) -> Iterator[str]:
    """Yield the fenced blocks of the page in a language."""
    for found, text in re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.S | re.M):
        if found == language:
            yield text


def files() -> dict[str, str]:
    """Return the files the page tells to write: blocks that begin with a comment of their name."""
    named = [re.match(r"# (\S+\.\w+)\n", text) for text in (*blocks("python"), *blocks("toml"))]
    return {found[1]: found.string for found in named if found}


def commands() -> list[str]:
    """Return the command lines of the page."""
    return [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the newcomer's folder, written as told, beside a folder where packages are found.

    The package is installed as `pip install -e` would, but by hand: CI has no network.
    """
    folder = tmp_path_factory.mktemp("newcomer")
    told = commands()
    setup = told[: told.index(INSTALL)]
    subprocess.run(" && ".join(setup), shell=True, cwd=folder, check=True)
    work = folder / "work"
    for name, text in files().items():
        (work / name).write_text(text, "utf-8")
    project = tomllib.loads((work / "pyproject.toml").read_text("utf-8"))["project"]
    info = folder / "site" / "my_parts-0.1.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata)
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {module}" for name, module in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return work


def run(work: Path, *command: str, typed: str = "") -> str:
    """Run Python in the newcomer's folder; return what it printed."""
    path = [str(work.parent / "site"), str(work), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=work,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "FEDPEFT_CACHE": str(work.parent / "cache"),
            "OMP_NUM_THREADS": "1",
        },
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_page_names_every_file_it_needs() -> None:
    points = tomllib.loads(files()["pyproject.toml"])["project"]["entry-points"]
    modules = {module for group in points.values() for module in group.values()}
    written = {name.removesuffix(".py").replace("/", ".") for name in files()}
    assert modules <= written
    assert set(points) == set(re.findall(r"\| `(fedpeft\.\w+)` \| [`n]", TEXT))


def test_commands_run(work: Path) -> None:
    """Every `fedpeft` line, in one process; each part is found through its entry point."""
    told = commands()
    for line in told:
        if line.startswith("python "):
            run(work, *line.split()[1:])
    lines = [line for line in told if line.startswith("fedpeft ")]
    run(work, "-c", COMMAND_LINE, typed="\n".join(lines))
    folders = re.findall(r"--out (\S+)", "\n".join(lines))
    assert len(folders) == len(set(folders)) == 7
    for folder in folders:
        assert (work / folder / "report.html").is_file()
    mine = tomllib.loads((work / "runs/mine/config.toml").read_text("utf-8"))
    chosen = [mine[table]["kind"] for table in ("adapter", "backbone", "loss")]
    assert chosen == ["mixture", "metric", "margin"]
    assert mine["items"]["encoder"] == "trigrams"
    assert mine["training"]["transforms"] == {"clamp": {"limit": 0.01}}


def test_nothing_else_is_told() -> None:
    """Each command is of a kind that the tests of this module run."""
    told = commands()
    known = ("fedpeft ", "python ", "pytest ", "mkdir ", "cd ", "touch ")
    assert [line for line in told if not line.startswith(known)] == [INSTALL]


def test_program_runs(work: Path) -> None:
    """The blocks that are not files are one program."""
    program = [text for text in blocks("python") if not re.match(r"# \S+\.py\n", text)]
    said = run(work, "-c", "\n".join(program))
    assert re.search(r"'items\.A@\w{16}': \(500, 4\), 'items\.B@\w{16}': \(4, 32\)", said)
    assert "(500, 32)" not in said
    assert "True Embedding(500, 32, padding_idx=0)" in said


@pytest.mark.slow
def test_contracts_hold(work: Path) -> None:
    line = next(line for line in commands() if line.startswith("pytest "))
    assert re.search(r"\d{3} passed", run(work, "-m", *line.split()))
