"""Adapter artifacts that were tampered with; round trips are in the contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.adapters import ItemContext, adapters, build, check_tensors, load, save
from fedpeft.errors import ArtifactError, InputError
from fedpeft.files import fingerprint, read_json, read_tensors, write_json, write_tensors
from fedpeft.testing.toy import random_base

BASE = random_base(7, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    adapter = build("lora", adapters.get("lora").config(rank=2), ItemContext(BASE, 0))
    save(adapter, tmp_path)
    return tmp_path


def test_what_is_written(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter.json",
        "adapter.safetensors",
    ]
    meta = read_json(folder / "adapter.json")
    assert meta["kind"] == "lora"
    assert meta["config"] == {
        "rank": 2,
        "mode": "peft",
        "init_std": 0.1,
        "zero": "B",
        "basis": "trained",
    }
    assert meta["shape"] == [7, 3]
    assert meta["base_sha256"] == fingerprint(BASE)
    assert meta["made_by"].startswith("fedpeft ")
    text = (folder / "adapter.json").read_text()
    assert text == json.dumps(meta, indent=2, sort_keys=True) + "\n"
    assert set(read_tensors(folder / "adapter.safetensors")) == {"A", "B"}  # never the base


@pytest.mark.parametrize("whole", [[], [1], 3, "text", None, {}])
def test_json_of_another_form_is_refused(folder: Path, whole: Any) -> None:
    write_json(folder / "adapter.json", whole)
    with pytest.raises(ArtifactError, match=r"adapter\.json"):
        load(folder, BASE)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": None},
        {"kind": "magic"},
        {"kind": ["lora"]},
        {"kind": "full"},
        {"kind": "hash"},
        {"config": 3},
        {"config": {"rank": 0}},
        {"config": {"rank": 3}},
        {"config": {"rank": 2, "alpha": 1}},
        {"config": {"rank": 2, "mode": "compress"}},
        {"shape": [3, 7]},
        {"shape": "7x3"},
        {"base_sha256": "0" * 64},
        {"tensors_sha256": "0" * 64},
        {"tensors_sha256": None},
    ],
)
def test_changed_entries_are_refused(folder: Path, change: dict[str, Any]) -> None:
    path = folder / "adapter.json"
    write_json(path, {**read_json(path), **change})
    with pytest.raises(InputError) as caught:
        load(folder, BASE)
    assert len(str(caught.value).splitlines()) == 1


def reseal(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write other tensors with a checksum that fits them."""
    write_tensors(folder / "adapter.safetensors", tensors)
    path = folder / "adapter.json"
    digest = fingerprint(*(tensors[name] for name in sorted(tensors)))
    write_json(path, {**read_json(path), "tensors_sha256": digest})


@pytest.mark.parametrize("spoil", ["missing", "unknown", "shape", "nan"])
def test_wrong_tensors_are_refused_even_when_sealed(folder: Path, spoil: str) -> None:
    tensors = read_tensors(folder / "adapter.safetensors")
    if spoil == "missing":
        del tensors["B"]
    elif spoil == "unknown":
        tensors["C"] = torch.zeros(1)
    elif spoil == "shape":
        tensors["B"] = tensors["B"].T
    else:
        tensors["B"][0, 0] = torch.nan
    reseal(folder, tensors)
    with pytest.raises(ArtifactError):
        load(folder, BASE)


def test_codes_of_another_size_are_refused_even_when_sealed(tmp_path: Path) -> None:
    adapter = build("rq", adapters.get("rq").config(levels=2, codes=3), ItemContext(BASE, 0))
    save(adapter, tmp_path)
    tensors = read_tensors(tmp_path / "adapter.safetensors")
    for codes in (tensors["codes"][:6], tensors["codes"][:, :1]):
        reseal(tmp_path, {**tensors, "codes": codes})
        with pytest.raises(ArtifactError):
            load(tmp_path, BASE)


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_tensors_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    adapter = build("lora", adapters.get("lora").config(rank=2), ItemContext(BASE, 0))
    save(adapter, folder)
    path = folder / "adapter.safetensors"
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    try:
        again = load(folder, BASE)
    except ArtifactError:
        return
    # a header may be damaged without meaning anything else (blanks that pad it)
    assert all(torch.equal(again.payload()[name], t) for name, t in adapter.payload().items())


def test_saving_over_an_older_artifact_replaces_it(folder: Path) -> None:
    newer = build("hash", adapters.get("hash").config(rows=5), ItemContext(BASE, 1))
    save(newer, folder)
    assert torch.equal(load(folder, BASE).merge(), newer.merge())
    assert len(list(folder.iterdir())) == 2


def test_check_tensors_names_what_is_wrong() -> None:
    good = {"a": torch.zeros(2), "b": torch.zeros(1, dtype=torch.int64)}
    shapes = {"a": (2,), "b": (1,)}
    check_tensors(good, shapes, "it")
    with pytest.raises(ArtifactError, match=r"it: tensors must be \['a', 'b'\], got \['a'\]"):
        check_tensors({"a": good["a"]}, shapes, "it")
    with pytest.raises(ArtifactError, match=r"'a' must have shape \(3,\), got \(2,\)"):
        check_tensors(good, {**shapes, "a": (3,)}, "it")
    spoiled = {**good, "a": torch.tensor([0, torch.inf])}
    with pytest.raises(ArtifactError, match="'a' holds NaN or infinity"):
        check_tensors(spoiled, shapes, "it")
    check_tensors(spoiled, shapes, "it", finite=False)
