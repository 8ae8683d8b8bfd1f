"""Run and sweep folders from strangers: whatever is in them, a command ends in one sentence."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .spoilt import CHECKPOINT, unfinished, written
from .tools import Outcome, fedpeft

COMMANDS = {
    "compare": "compare run",
    "report": "report run --out report.html",
    "recommend": "recommend run --user user-0",
    "evaluate": "evaluate run",
    "traffic": "traffic run --user user-0 --round 1",
    "resume": "run --resume run",
    "export": "export run --out exported",
}
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
DEEP = "[" * 20_000 + "]" * 20_000
HOSTILE = [
    "null", "true", "-1", "0", "1e400", "-1e400", "NaN", "1" + "0" * 400, "9" * 5000, "1e308",
    str(2**62), str(2**70), "[]", "{}", '""', '"\\u001b[2J\\u202e\\u0007"',
    '"<script>alert(1)</script>"',
    '["a", {"b": []}]', "[" * 60 + "]" * 60, DEEP, '"' + "x" * 50_000 + '"',
]  # fmt: skip


def harmless(done: Outcome) -> None:
    """Check that a command went well, or ended with one sentence that a terminal can show."""
    assert done.code in (0, 2, 3), done.err[-2000:]
    assert not CONTROL.search(done.out + done.err)
    if done.code:
        assert done.out == ""
        last = done.err.splitlines()[-1]
        assert last.startswith("fedpeft: ")
        assert len(last) < 3000


@pytest.fixture
def folder(run: Path) -> Path:
    """Return the working directory, with a run in it that a resume would go on with."""
    return run.parent


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a value, tables and lists too."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, each in value.items():
            found += leaves(each, (*path, key))
    elif isinstance(value, list):
        for place, each in enumerate(value[:2]):
            found += leaves(each, (*path, place))
    return found


MARK = "\u2603 here"


def spoil(text: str, at: int, by: str) -> str:
    """Replace one value of a JSON document by hostile text."""
    value = json.loads(text)
    paths = leaves(value)
    *way, last = paths[at % len(paths)]
    inner = value
    for key in way:
        inner = inner[key]
    inner[last] = MARK
    return json.dumps(value).replace(json.dumps(MARK), by)


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl", "traffic.jsonl"])
@given(at=st.integers(0, 10_000), by=st.sampled_from(HOSTILE))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_value_of_a_record(name: str, at: int, by: str, folder: Path, finished: Path) -> None:
    lines = (finished / name).read_text().splitlines()
    if name == "result.json":
        text = spoil("\n".join(lines), at, by)
    else:
        lines[at % len(lines)] = spoil(lines[at % len(lines)], at // 7, by)
        text = "\n".join(lines) + "\n"
    (folder / "run" / name).write_text(text)
    harmless(fedpeft("compare", "run"))


@pytest.mark.parametrize("by", HOSTILE, ids=range(len(HOSTILE)))
def test_reports(by: str, folder: Path, finished: Path) -> None:
    """Values that reach charts and tables, one after the other."""
    ways = [
        ("result.json", ("name",)), ("result.json", ("dataset", "users")),
        ("result.json", ("bytes", "total_per_client_mean")),
        ("result.json", ("metrics", "test", "sampled", "ndcg@10")),
        ("result.json", ("cost", "strategies", 0, "capacity", "expected_distinct")),
        ("metrics.jsonl", ("bytes_per_client",)), ("traffic.jsonl", ("upload",)),
        ("metrics.jsonl", ("round",)), ("traffic.jsonl", ("round",)),
    ]  # fmt: skip
    name, way = ways[HOSTILE.index(by) % len(ways)]
    for name, way in ways[HOSTILE.index(by) % 3 :: 3]:
        lines = (finished / name).read_text().splitlines()
        text = "\n".join(lines) if name == "result.json" else lines[-1]
        value = json.loads(text)
        inner = value
        for key in way[:-1]:
            inner = inner[key]
        inner[way[-1]] = MARK
        new = json.dumps(value).replace(json.dumps(MARK), by)
        whole = new if name == "result.json" else "\n".join([*lines[:-1], new]) + "\n"
        (folder / "run" / name).write_text(whole)
        harmless(fedpeft("report", "run", "--out", "page.html"))
        if (folder / "page.html").exists():
            page = (folder / "page.html").read_text()
            assert "<script" not in page
            assert not CONTROL.search(page.replace("\t", ""))
        (folder / "run" / name).write_bytes((finished / name).read_bytes())


def piped(name: str) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return edit


def linked(name: str) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(folder / "precious")

    return edit


def a_folder(name: str) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()
        shutil.copy(folder / "precious", folder / name / "x.parquet")

    return edit


def a_socket(folder: Path) -> None:
    socket.socket(socket.AF_UNIX).bind("run/s")


FILES = ("config.toml", "result.json", "metrics.jsonl", "users.parquet", CHECKPOINT[4:],
         "histories.parquet", "catalogue.parquet")  # fmt: skip
ODD = {
    **{f"{name} is a pipe": piped(f"run/{name}") for name in FILES},
    **{f"{name} is a link": linked(f"run/{name}") for name in FILES},
    **{f"{name} is a folder": a_folder(f"run/{name}") for name in FILES},
    "a planted lock": linked("run/lock"),
    "a socket": a_socket,
    "deep result": written("run/result.json", DEEP),
    "deep config": written("run/config.toml", f"x = {DEEP}"),
    "wide config": written("run/config.toml", f"seed = {'9' * 5000}"),
    "wider than 64 bits": written("run/config.toml", f"seed = {2**70}"),
    "escapes in the config": written("run/config.toml", '[data]\n"\\u001b[2J" = 1\n'),
    "infinite rate": written("run/config.toml", "[training.server_optimizer]\nlr = 1e400\n"),
    "an odd schema": written("run/config.toml", "# fedpeft config, schema \u00b2\n"),
    "a log that is no text": written("run/metrics.jsonl", b"\xff\xfe\n"),
    "a table that is no table": written("run/users.parquet", b"PAR1 nothing PAR1"),
    "empty files": lambda folder: [
        path.write_bytes(b"") for path in (folder / "run").rglob("*") if path.is_file()
    ],
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_folders(odd: str, folder: Path, finished: Path) -> None:
    """No command reads for ever, writes elsewhere, or ends in a traceback."""
    precious = folder / "precious"
    precious.write_text("years of work")
    unfinished(folder)
    (folder / "run" / "result.json").write_bytes((finished / "result.json").read_bytes())
    ODD[odd](folder)
    for verb, line in COMMANDS.items():
        result = folder / "run" / "result.json"
        if verb == "resume" and result.is_file() and "result" not in odd:
            result.unlink()
        done = fedpeft(*line.split())
        harmless(done)
        assert precious.read_text() == "years of work"
    if "link" in odd or "pipe" in odd or "planted" in odd or odd == "a socket":
        done = fedpeft("compare", "run")
        assert done.code == 2


def test_titles_and_names_are_shown_harmless(folder: Path) -> None:
    path = folder / "run" / "catalogue.parquet"
    table = pl.read_parquet(path).with_columns(
        title=pl.lit("\x1b[2J\x1b]0;owned\x07[bold]\u202e<b>") + pl.col("item")
    )
    table.write_parquet(path)
    done = fedpeft("recommend", "run", "--user", "user-0")
    assert done.code == 0
    harmless(done)
    assert "\\x1b[2J\\x1b]0;owned\\x07[bold]\\u202e<b>item-" in done.out
    odd = (folder / "run").rename(folder / "r\x1b[2Jn")
    harmless(fedpeft("report", odd))
    harmless(fedpeft("recommend", odd, "--user", "\x1b[2J"))
    harmless(fedpeft("compare", odd, odd))


def test_a_planted_lock_is_not_followed(here: Path) -> None:
    """A new run may be given a folder that is empty but for a lock."""
    (here / "precious").write_text("years of work")
    (here / "new").mkdir()
    (here / "new" / "lock").symlink_to(here / "precious")
    done = fedpeft("run", "--rounds", "1", "--set", "data.synthetic.users=20", "--set",
                   "items.base=svd", "--out", "new")  # fmt: skip
    harmless(done)
    assert done.code == 3
    assert (here / "precious").read_text() == "years of work"
