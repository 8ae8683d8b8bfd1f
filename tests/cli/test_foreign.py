"""Run and sweep folders from strangers: whatever is in them, a command ends in one sentence."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedpeft.files import read_metadata, read_tensors, write_tensors
from fedpeft.records import Checkpoint
from fedpeft.records.checkpoint import _digest

from .spoilt import CHECKPOINT, unfinished, written
from .tools import Outcome, fedpeft, tree

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


def forged(**changes: Any) -> Callable[[Path], None]:
    """Return an edit of a checkpoint whose checksum is right."""

    def edit(path: Path) -> None:
        values = json.loads(read_metadata(path)["fedpeft"])
        tensors = read_tensors(path)
        for name, value in changes.items():
            if name in tensors or "/" in name:
                tensors[name] = value(tensors.get(name))
            else:
                values |= {name: value(values.get(name))}
        tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        metadata = {"fedpeft": json.dumps(values)}
        metadata["sha256"] = _digest(metadata["fedpeft"], tensors)
        write_tensors(path, tensors, metadata)

    return edit


def header(size: int, text: bytes = b"{}") -> Callable[[Path], None]:
    return lambda path: path.write_bytes(struct.pack("<Q", size) + text)  # type: ignore[return-value]


STATES: dict[str, Callable[[Path], None]] = {
    "a header of 2^63 bytes": header(2**63),
    "a header that is deep": header(len(DEEP), DEEP.encode()),
    "offsets beyond the file": header(
        80, b'{"x":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}'.ljust(80)
    ),
    "a shape that overflows": header(
        100,
        json.dumps({"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}})
        .encode().ljust(100) + b"0000",
    ),
    "no server": forged(server=lambda _: None),
    "a server of another kind": forged(server=lambda _: [1]),
    "a round of words": forged(server=lambda value: value | {"round": "x"}),
    "a round below zero": forged(server=lambda value: value | {"round": -5}),
    "a lineage of words": forged(server=lambda value: value | {"lineage": "zz"}),
    "an unknown phase": forged(server=lambda value: value | {"phase": "later"}),
    "no notes": forged(extra=lambda _: {}),
    "notes of another kind": forged(extra=lambda value: value | {"model": 3}),
    "no settings": forged(settings=lambda _: {}),
    "totals that nobody counts": forged(traffic=lambda value: value | {"gifts": 3}),
    "integers for values": forged(
        **{"server/payload/item.A": lambda tensor: tensor.to(torch.int64)}
    ),
    "halves": forged(**{"clients/local/user": lambda tensor: tensor.half()}),
    "fewer users": forged(**{"clients/local/user": lambda tensor: tensor[:-1]}),
    "floats for versions": forged(**{"clients/held": lambda tensor: tensor.float()}),
    "moments of half a step": forged(
        **{"server/moments/item.A|exp_avg": lambda _: None}
    ),
    "moments of another shape": forged(
        **{"server/moments/item.A|exp_avg": lambda _: torch.zeros(2, 2)}
    ),
    "a residual of another shape": forged(
        **{"server/residual/item.A": lambda _: torch.zeros(1)}
    ),
    "no first snapshot": forged(**{"server/message/0": lambda _: None}),
    "a snapshot of noise": forged(
        **{"server/message/0": lambda tensor: torch.full_like(tensor, 7)}
    ),
    "a snapshot cut short": forged(**{"server/message/0": lambda tensor: tensor[:40].clone()}),
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_forged_checkpoints(name: str, folder: Path) -> None:
    unfinished(folder)
    STATES[name](folder / CHECKPOINT)
    before = tree(folder)
    for verb in ("recommend", "evaluate", "export", "resume"):
        done = fedpeft(*COMMANDS[verb].split())
        harmless(done)
        assert done.code == 2, (verb, done.err)
    assert tree(folder) == before


def test_a_checkpoint_of_a_type_that_numpy_lacks(folder: Path) -> None:
    path = folder / CHECKPOINT
    tensors = read_tensors(path) | {"server/base": torch.zeros(80, 8, dtype=torch.bfloat16)}
    write_tensors(path, tensors, read_metadata(path))
    done = fedpeft("recommend", "run", "--user", "user-0")
    harmless(done)
    assert "'server/base' is torch.bfloat16, which no state has" in done.err


TABLES: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "no users": lambda table: table.head(0),
    "half of the users": lambda table: table.head(30),
    "a user twice": lambda table: pl.concat([table.head(59), table.head(1)]),
    "a user without a name": lambda table: table.with_columns(
        user=pl.when(pl.col("user") == "user-1").then(None).otherwise("user")
    ),
    "numbers for users": lambda table: table.with_columns(user=pl.lit(1)),
    "no items": lambda table: table.drop("items"),
    "items beyond the catalogue": lambda table: table.with_columns(
        items=pl.lit([80], dtype=pl.List(pl.Int64))
    ),
    "items below it": lambda table: table.with_columns(items=pl.lit([-1], dtype=pl.List(pl.Int64))),
    "items of words": lambda table: table.with_columns(items=pl.lit(["x"])),
    "empty lists": lambda table: table.with_columns(items=pl.lit([], dtype=pl.List(pl.UInt32))),
    "a missing list": lambda table: table.with_columns(
        items=pl.lit(None, dtype=pl.List(pl.UInt32))
    ),
    "a missing item": lambda table: table.with_columns(
        items=pl.lit([None, 1], dtype=pl.List(pl.UInt32))
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_forged_histories(name: str, folder: Path) -> None:
    path = folder / "run" / "histories.parquet"
    TABLES[name](pl.read_parquet(path)).write_parquet(path)
    for words in (("--user", "user-0"), ("--all", "--out", "all.parquet"), ("--history", "item-3")):
        done = fedpeft("recommend", "run", *words)
        harmless(done)
        assert done.code == 2, done.out
        assert "user-" not in done.err


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


SWEEP: dict[str, Callable[[Path], object]] = {
    "facts of words": written("sweep/sweep.json", '"x"'),
    "deep facts": written("sweep/sweep.json", DEEP),
    "a status nobody knows": lambda folder: rows(folder, status=pl.lit("lost")),
    "no status": lambda folder: rows(folder, status=pl.lit(None, dtype=pl.String)),
    "a folder elsewhere": lambda folder: rows(folder, folder=pl.lit("../run")),
    "a folder at the root": lambda folder: rows(folder, folder=pl.lit("/")),
    "a folder of no name": lambda folder: rows(folder, folder=pl.lit(None, dtype=pl.String)),
    "a folder of numbers": lambda folder: rows(folder, folder=pl.lit(3)),
    "a seed of words": lambda folder: rows(folder, seed=pl.lit("x")),
    "an infinite metric": lambda folder: rows(
        folder, **{"test.sampled.ndcg@10": pl.lit(float("inf"))}
    ),
    "a metric of words": lambda folder: rows(folder, **{"test.sampled.ndcg@10": pl.lit("x")}),
    "a table that is a folder": a_folder("sweep/results.parquet"),
    "a link": linked("sweep/state.json"),
    "a pipe": piped("sweep/state.json"),
    "a state of words": written("sweep/state.json", '{"x": {"peak_memory": "y"}}'),
}
SWEPT = """
seeds = [0]
[base]
training.rounds = 2
[base.data.synthetic]
users = 60
items = 80
interactions_per_user = 10
topics = 8
[base.items]
base = "svd"
dim = 8
[base.evaluation]
negatives = 20
centralised_baseline = false
[axes]
"adapter.kind" = ["lora"]
"""


def rows(folder: Path, **columns: pl.Expr) -> None:
    path = folder / "sweep" / "results.parquet"
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)


@pytest.fixture(scope="module")
def swept(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a grid file and its finished sweep."""
    home = tmp_path_factory.mktemp("swept")
    (home / "grid.toml").write_text(SWEPT)
    words = ("--jobs", "1", "--memory", "8")
    assert fedpeft("sweep", home / "grid.toml", "--out", home / "sweep", *words).code == 0
    return home


@pytest.mark.parametrize("name", SWEEP)
def test_foreign_sweeps(name: str, swept: Path, here: Path) -> None:
    shutil.copytree(swept, here, dirs_exist_ok=True)
    (here / "precious").write_text("years of work")
    SWEEP[name](here)
    done = fedpeft("report", "sweep")
    harmless(done)
    assert done.code == 2 or "state" in name
    done = fedpeft("sweep", "grid.toml", "--out", "sweep", "--jobs", "1", "--memory", "8")
    harmless(done)
    assert (here / "precious").read_text() == "years of work"


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


def test_checkpoint_of_this_run_is_read(finished: Path) -> None:
    """What the tests above forge is accepted as long as it is not forged."""
    assert Checkpoint.read(finished / CHECKPOINT[4:]).values["server"]["round"] == 30
