"""Adapter artifacts that cannot be used: one sentence that says why, for whoever loads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fedpeft import adapters
from fedpeft.errors import InputError
from fedpeft.files import read_tensors, write_tensors

from .spoilt import cut, removed, written


def meta(**changes: object) -> Callable[[Path], None]:
    """Return an edit that changes keys of ``adapter.json``; None removes one."""

    def edit(folder: Path) -> None:
        path = folder / "adapter.json"
        values = json.loads(path.read_text()) | changes
        kept = {name: value for name, value in values.items() if value is not None}
        path.write_text(json.dumps(kept))

    return edit


def other_values(folder: Path) -> None:
    tensors = read_tensors(folder / "adapter.safetensors")
    write_tensors(folder / "adapter.safetensors", {n: t + 1 for n, t in tensors.items()})


def other_name(folder: Path) -> None:
    tensors = read_tensors(folder / "adapter.safetensors")
    write_tensors(folder / "adapter.safetensors", {f"x{n}": t for n, t in tensors.items()})


ROWS: list[tuple[Callable[[Path], object], str]] = [
    (removed("adapter.json"), "adapter.json does not exist"),
    (removed("adapter.safetensors"), "adapter.safetensors does not exist"),
    (written("adapter.json", "{"), "adapter.json is not valid JSON"),
    (written("adapter.json", "[]"), "adapter.json must hold a table"),
    (written("adapter.json", "5"), "adapter.json must hold a table"),
    (meta(kind=None, shape=None), "adapter.json lacks kind, shape"),
    (meta(schema=2), "adapter.json has schema 2; this version reads 1"),
    (meta(kind="dora"), "unknown adapter 'dora'; known are full, hash, lora, rq"),
    (meta(kind=["lora"]), "adapter.json: kind must be a name and config a table of settings"),
    (meta(config={"ranks": 1}), "unknown key 'adapter.ranks'"),
    (meta(config=3), "adapter.json: kind must be a name and config a table of settings"),
    (meta(config={"mode": "peft", "rank": 5}), "tensor 'A' must have shape"),
    (meta(shape=[80, 9]), "was made for a table of shape [80, 9], got a base of shape [80, 8]"),
    (meta(base_sha256="0" * 64), "was trained on another base table than the one given"),
    (cut("adapter.safetensors", 60), "adapter.safetensors is not a readable safetensors file"),
    (other_values, "adapter.safetensors is not the file adapter.json describes"),
    (other_name, "tensors must be ['A', 'B'], got ['xA', 'xB']"),
]


@pytest.mark.parametrize(("edit", "sentence"), ROWS, ids=range(len(ROWS)))
def test_bad_artifact(
    edit: Callable[[Path], object], sentence: str, finished: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished / "adapter", tmp_path / "adapter")
    base = read_tensors(folder / "base.safetensors")["base"]
    adapters.load(folder, base)  # sound before the edit
    edit(folder)
    with pytest.raises(InputError) as caught:
        adapters.load(folder, base)
    assert sentence in str(caught.value)
    assert caught.value.exit_code == 2


def test_another_base_is_refused(finished: Path) -> None:
    base = read_tensors(finished / "adapter" / "base.safetensors")["base"]
    almost = base.clone()
    almost[0, 0] = torch.nextafter(almost[0, 0], torch.tensor(1.0))
    with pytest.raises(InputError, match="another base table"):
        adapters.load(finished / "adapter", almost)
