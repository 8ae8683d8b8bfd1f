"""The command line in this process or in one of its own, on data that take a second."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from safetensors.torch import load_file

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
    """Run a command line in this process, as far from a terminal as in a pipe."""
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
    return [sys.executable, "-m", "fedpeft", *map(str, words)]


def process(*words: str | Path, cwd: Path) -> Outcome:
    """Run a command line in a process of its own."""
    done = subprocess.run(program(*words), cwd=cwd, capture_output=True, text=True, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


def tree(folder: Path) -> dict[str, str]:
    """Return the content hash of every file, and of every empty folder its name."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        )
        for path in sorted(folder.rglob("*"))
    }


def lasting(folder: Path) -> dict[str, Any]:
    """Return what a run folder holds, without what differs from one execution to the next.

    That is the seconds something took, the report that shows them, the checkpoint's note of how
    long the logs are, whose lines hold seconds, and the commit of the source tree.
    """
    result = json.loads((folder / "result.json").read_text())
    del result["commit"]
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for values in (result, *metrics):
        assert values.pop("seconds") > 0
    hashes = tree(folder)
    for name in ("result.json", "metrics.jsonl", "report.html", "checkpoint/state.safetensors"):
        hashes.pop(name)
    state = load_file(folder / "checkpoint" / "state.safetensors")
    tensors = {name: tensor.numpy().tobytes() for name, tensor in state.items()}
    return {"result": result, "metrics": metrics, "hashes": hashes, "checkpoint": tensors}
