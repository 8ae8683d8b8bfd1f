"""The command line in this process or in one of its own, on data that take a second."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from fedpeft.cli import main

SMALL = [
    word
    for setting in (
        "data.synthetic.users=60",
        "data.synthetic.items=80",
        "data.synthetic.interactions_per_user=10",
        "data.synthetic.topics=8",
        "items.base=svd",
        "items.dim=8",
        "evaluation.negatives=20",
        "evaluation.every=5",
    )
    for word in ("--set", setting)
]
"""Options of `fedpeft run` that make it small."""


class Outcome(NamedTuple):
    """What a command left on its streams, and its exit code."""

    code: int
    out: str
    err: str


def fedpeft(*words: str | Path) -> Outcome:
    """Run a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "argv", ["fedpeft", *map(str, words)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
    return Outcome(code, out.getvalue(), err.getvalue())


def program(*words: str | Path) -> list[str]:
    """Return the same as the arguments of a process."""
    start = "import sys; from fedpeft.cli import main; sys.exit(main())"
    return [sys.executable, "-c", start, *map(str, words)]


def process(*words: str | Path, cwd: Path) -> Outcome:
    """Run a command line in a process of its own."""
    done = subprocess.run(
        program(*words), cwd=cwd, env=environment(), capture_output=True, text=True, check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def environment() -> Mapping[str, str]:
    """Return the environment of a child: this one, with one thread, as its siblings run too."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def tree(folder: Path) -> dict[str, str]:
    """Return the content hash of every file, and of every empty folder its name."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        )
        for path in sorted(folder.rglob("*"))
    }
