"""The documentation is true: links resolve, commands parse, examples run, pages are up to date."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import typer

from fedpeft.cli.app import app
from fedpeft.experiment import configure, resolve
from fedpeft.sweep import read_grid

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
EVERYDAY = ("backbone", "adapter", "mode", "loss", "preset", "rounds", "seed", "settings")


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """Yield the fenced blocks of a page that are written in one of the languages."""
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text("utf-8"), re.S | re.M):
        if language in languages:
            yield text


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M)


def anchors(page: Path) -> set[str]:
    """Return the anchors that a renderer gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> list[str]:
    """Return every command line shown, in blocks and inline, continued lines joined."""
    found = []
    for page in PAGES:
        lines = [
            line
            for block in blocks(page, "bash")
            for line in block.replace("\\\n", " ").splitlines()
        ]
        lines += re.findall(r"`(fedpeft [^`]+)`", prose(page))
        found += [line.partition(" #")[0].strip() for line in lines if line.startswith("fedpeft ")]
    return sorted(set(found))


def toml_blocks(*, grids: bool) -> list[str]:
    """Return the TOML blocks that are grid files, or those that are settings of a run."""
    found = [block for page in PAGES for block in blocks(page, "toml")]
    return [block for block in found if "[project" not in block and ("[axes" in block) == grids]


@pytest.mark.parametrize("name", ["configuration", "costs", "results"])
def test_generated_pages_are_up_to_date(
    name: str, tmp_path: Path, run_script: Callable[..., None]
) -> None:
    run_script(ROOT / "docs" / f"generate_{name}.py", "--out", tmp_path)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    for path in written:
        committed = ROOT / "docs" / path.relative_to(tmp_path)
        assert committed.is_file(), f"add {path.name}"
        if path.suffix == ".md":  # how a picture is drawn depends on the fonts that are there
            said = f"run: python docs/generate_{name}.py"
            assert committed.read_text("utf-8") == path.read_text("utf-8"), said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}"


@pytest.mark.parametrize("line", commands())
def test_command_parses(line: str) -> None:
    command: click.Command = typer.main.get_command(app)
    name, *words = shlex.split(line)
    while words and words[0] in getattr(command, "commands", {}):
        name = words.pop(0)
        command = command.commands[name]  # type: ignore[attr-defined]
    if words in (["--version"], ["--help"]):  # they are done while they are parsed
        with pytest.raises(typer.Exit):
            command.make_context(name, words)
        return
    context = command.make_context(name, words)
    if name == "run":  # without the file and the data, which the reader has and we have not
        configure(None, **{key: context.params[key] for key in EVERYDAY})


@pytest.mark.parametrize("text", toml_blocks(grids=False))
def test_settings_resolve(text: str) -> None:
    config = resolve(tomllib.loads(text))
    assert resolve(config.to_dict()) == config


@pytest.mark.parametrize("text", toml_blocks(grids=True))
def test_grids_resolve(text: str, tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text(text, encoding="utf-8")
    assert read_grid(path, tmp_path).cells()


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "guide.md"], ids=str)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks of a page are one program, run in an empty folder."""
    monkeypatch.setenv("FEDPEFT_CACHE", str(tmp_path / "cache"))
    program = "\n".join(blocks(page, "python"))
    assert program
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
