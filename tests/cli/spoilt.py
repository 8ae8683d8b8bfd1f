"""Small files with one thing wrong, for the rows of `refused`."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from safetensors import safe_open
from safetensors.torch import save_file

Edit = Callable[[Path], object]

EVENTS = [
    f"u{user},i{(3 * user + step) % 12},{100 * user + step}"
    for user in range(8)
    for step in range(5)
]
ITEMS = [f"i{item},Film {item},about {'moss' if item % 2 else 'kites'}" for item in range(12)]


def table(folder: Path) -> Path:
    """Write a data set of 8 users and 12 items."""
    data = folder / "data"
    data.mkdir()
    lines = ["user_id,item_id,timestamp", *EVENTS]
    (data / "interactions.csv").write_text("\n".join(lines) + "\n")
    (data / "items.csv").write_text("\n".join(["item_id,title,plot", *ITEMS]) + "\n")
    return data


def replaced(name: str, old: bytes, new: bytes) -> Edit:
    """Return an edit that replaces the first `old` in a file."""

    def edit(folder: Path) -> None:
        path = folder / name
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, 1))

    return edit


def data(old: str, new: str, name: str = "interactions.csv") -> Edit:
    """Return an edit that writes a data set and replaces the first `old` in one file."""

    def edit(folder: Path) -> None:
        table(folder)
        replaced(f"data/{name}", old.encode("latin-1"), new.encode("latin-1"))(folder)

    return edit


def written(name: str, content: str | bytes) -> Edit:
    """Return an edit that writes a file."""

    def edit(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return edit


def truncated_gzip(folder: Path) -> None:
    path = table(folder) / "interactions.csv"
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes())[:-20])
    path.unlink()


def short_histories(folder: Path) -> None:
    path = table(folder) / "interactions.csv"
    lines = [line for line in EVENTS if line[-1] in "01"]
    path.write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")


def array(values: np.ndarray, *, pickled: bool = False) -> Edit:
    """Return an edit that writes a data set and an array of item vectors beside it."""

    def edit(folder: Path) -> None:
        table(folder)
        np.save(folder / "vectors.npy", values, allow_pickle=pickled)

    return edit


def both(*edits: Edit) -> Edit:
    """Return an edit that makes several."""

    def edit(folder: Path) -> None:
        for each in edits:
            each(folder)

    return edit


def unfinished(folder: Path) -> None:
    """Make a run look as if it was killed before its end."""
    shutil.rmtree(folder / "run" / "adapter")
    for name in ("result.json", "report.html"):
        (folder / "run" / name).unlink()


def removed(name: str) -> Edit:
    """Return an edit that removes a file."""
    return lambda folder: (folder / name).unlink()


def cut(name: str, length: int) -> Edit:
    """Return an edit that cuts a file short."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:length])


CHECKPOINT = "run/checkpoint/state.safetensors"


def flipped_byte(folder: Path) -> None:
    data = bytearray((folder / CHECKPOINT).read_bytes())
    data[-5] ^= 1
    (folder / CHECKPOINT).write_bytes(data)


def other_schema(folder: Path) -> None:
    with safe_open(folder / CHECKPOINT, framework="pt") as opened:
        metadata = dict(opened.metadata())
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    state = json.loads(metadata["fedpeft"]) | {"schema": 99}
    save_file(tensors, folder / CHECKPOINT, metadata | {"fedpeft": json.dumps(state)})


def foreign_tensors(folder: Path) -> None:
    import torch

    save_file({"x": torch.zeros(1)}, folder / CHECKPOINT)


def result(**changes: object) -> Edit:
    """Return an edit that changes keys of ``result.json``; None removes one."""

    def edit(folder: Path) -> None:
        path = folder / "run" / "result.json"
        values = json.loads(path.read_text()) | changes
        kept = {name: value for name, value in values.items() if value is not None}
        path.write_text(json.dumps(kept))

    return edit


def later_users(folder: Path) -> None:
    path = folder / "run" / "users.parquet"
    pl.read_parquet(path).write_parquet(path, metadata={"fedpeft.schema": "9"})


def other_split(folder: Path) -> None:
    shutil.copytree(folder / "run", folder / "other")
    replaced("other/result.json", b'"split_fingerprint": "', b'"split_fingerprint": "0')(folder)
