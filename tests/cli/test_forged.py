"""Forged checkpoints, tables and sweeps: right in form, wrong in what they say."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from fedpeft.files import read_metadata, read_tensors, write_tensors
from fedpeft.records.checkpoint import _digest
from sweep import grids

from .spoilt import CHECKPOINT, unfinished, written
from .test_foreign import COMMANDS, DEEP, a_folder, harmless, linked, piped
from .tools import fedpeft, tree


@pytest.fixture
def folder(run: Path) -> Path:
    """Return the working directory, with a finished run in it."""
    return run.parent


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
SWEPT = f"""
seeds = [0]
[base]
training.rounds = 2
{grids.SMALL}
[axes]
"adapter.kind" = ["lora"]
"""


def rows(home: Path, /, **columns: pl.Expr) -> None:
    path = home / "sweep" / "results.parquet"
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


def test_the_link_of_a_search_is_no_hindrance(swept: Path, here: Path) -> None:
    """While a search writes its journal, a link stands in its folder; a kill leaves it there."""
    shutil.copytree(swept, here, dirs_exist_ok=True)
    (here / "sweep" / "search.journal.lock").symlink_to("search.journal")
    assert fedpeft("report", "sweep").code == 0
    words = ("--out", "sweep", "--jobs", "1", "--memory", "8")
    assert fedpeft("sweep", "grid.toml", *words).code == 0
