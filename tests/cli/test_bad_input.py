"""Everything a user can get wrong (`refused`): one sentence, exit code 2, and no trace."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from . import spoilt
from .refused import ARRAY, DATA, RECOMMEND, ROWS, RUN
from .spoilt import Edit
from .tools import SMALL, Outcome, fedpeft, process, tree

PROGRESS = ("reading ", "pretraining ")
"""How the lines begin that may come before the sentence."""
IN_A_PROCESS = ("missing column", "rounds in words", "checkpoint cut short")


def words(command: str) -> list[str]:
    """Split a command; ``{small}`` makes a run on built-in data quick."""
    return [word for part in command.split() for word in (SMALL if part == "{small}" else [part])]


def assert_refused(done: Outcome, sentence: str, here: Path) -> None:
    """Check that a command ended with just this sentence."""
    *before, last = done.err.splitlines()
    pattern = ".+".join(map(re.escape, f"fedpeft: {sentence}".format(here=here).split("…")))
    assert re.fullmatch(pattern, last), done.err
    assert all(line.startswith(PROGRESS) for line in before), done.err
    assert done.out == ""
    assert done.code == 2


@pytest.mark.parametrize(
    ("edit", "command", "sentence"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_bad_input(edit: Edit | None, command: str, sentence: str, run: Path, here: Path) -> None:
    if edit is not None:
        edit(here)
    before = tree(here)
    done = fedpeft(*words(command))
    assert_refused(done, sentence, here)
    assert tree(here) == before


@pytest.mark.parametrize("name", IN_A_PROCESS)
def test_bad_input_in_a_process(name: str, run: Path, here: Path) -> None:
    edit, command, sentence = next(row[1:] for row in ROWS if row[0] == name)
    if edit is not None:
        edit(here)
    before = tree(here)
    done = process(*words(command), cwd=here)
    assert_refused(done, sentence, here)
    assert tree(here) == before


@pytest.mark.parametrize("command", [DATA, ARRAY, RUN.replace("new", "new/er"), RECOMMEND])
def test_unspoilt(command: str, run: Path, here: Path) -> None:
    """The commands of the rows above work before anything is spoilt."""
    spoilt.array(np.random.default_rng(0).normal(size=(12, 3)))(here)
    done = fedpeft(*words(command))
    assert done.code == 0, done.err


def test_at_least_35() -> None:
    assert len(ROWS) >= 35
    assert len({row[0] for row in ROWS}) == len(ROWS)
