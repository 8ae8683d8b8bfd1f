"""The item model in a folder: the same files however it was made, nothing foreign read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fedpeft.data import Catalogue
from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.files import read_json, read_tensors, write_json, write_tensors
from fedpeft.items import (
    ItemModel,
    ItemsConfig,
    State,
    pretrain,
    semantic_ids,
)

from .conftest import CODED, Fitted, model_of

ALL = ["encoder", "reduction", "base_codes", "semantic_ids"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("links", [True, False])
def test_cached_or_not_the_files_are_the_same(
    catalogue: Catalogue,
    small: ItemsConfig,
    tmp_path: Path,
    links: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise OSError("Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
    for turn, cache in enumerate([None, tmp_path / "cache", tmp_path / "cache"]):
        items = pretrain(catalogue, small, cache=cache)
        model = model_of(items)
        model.coder = semantic_ids(items, small, 2, 4, cache=cache).coder
        model.keep(tmp_path / str(turn))
    assert contents(tmp_path / "0") == contents(tmp_path / "1") == contents(tmp_path / "2")
    (original,) = (tmp_path / "cache").glob("encoder-*.safetensors")
    for turn in (1, 2):
        assert original.samefile(tmp_path / str(turn) / "encoder.safetensors") == links
    before = original.read_bytes()
    model.encoder.state.write(tmp_path / "2" / "encoder.safetensors")  # the same file already
    write_tensors(tmp_path / "2" / "encoder.safetensors", {"x": torch.zeros(1)})
    assert original.read_bytes() == before
    assert not list(tmp_path.rglob(".*"))


def test_parts_are_added_and_never_written_over(
    catalogue: Catalogue, small: ItemsConfig, tmp_path: Path
) -> None:
    items = pretrain(catalogue, small)
    model = model_of(items)
    model.keep(tmp_path)
    before = contents(tmp_path)
    assert ItemModel.load(tmp_path).coder is None
    model_of(pretrain(catalogue, small.model_copy(update={"seed": 1}))).keep(tmp_path)
    assert contents(tmp_path) == before
    model.coder = semantic_ids(items, small, 2, 4).coder
    model.keep(tmp_path)
    after = contents(tmp_path)
    assert after.keys() - before.keys() == {"semantic_ids.safetensors"}
    assert all(after[name] == before[name] for name in before.keys() - {"items.json"})
    assert ItemModel.load(tmp_path).coder is not None


@pytest.mark.parametrize("part", ALL)
@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "other"])
def test_a_damaged_part_is_refused(folder: Path, part: str, damage: str) -> None:
    path = folder / f"{part}.safetensors"
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:-7])
    elif damage == "flip":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "other":
        write_tensors(path, {"x": torch.zeros(2)})
    with pytest.raises(ArtifactError, match=f"{part}.safetensors") as caught:
        ItemModel.load(folder)
    assert "\n" not in str(caught.value)


def change(meta: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    *parents, key = path.split("/")
    table = meta
    for name in parents:
        table = table[name]
    table[key] = value
    return meta


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda _: [], "names no schema"),
        (lambda _: {}, "names no schema"),
        (lambda meta: change(meta, "schema", 2), r"has schema 2; this version reads 1"),
        (lambda meta: change(meta, "encoder", None), "must name an encoder"),
        (lambda meta: change(meta, "encoder/kind", 3), "must name an encoder"),
        (lambda meta: change(meta, "encoder/options", []), "must name an encoder"),
        (lambda meta: change(meta, "parts", []), "table of parts"),
        (lambda meta: change(meta, "parts", {}), "lacks the part"),
        (lambda meta: change(meta, "parts/encoder", 3), "no settings table"),
        (lambda meta: change(meta, "parts/encoder/settings", 3), "no settings table"),
        (lambda meta: change(meta, "parts/encoder/settings", {"a": 1}), "not the file"),
        (lambda meta: change(meta, "parts/reduction/sha256", None), "not the file"),
    ],
)
def test_a_foreign_description_is_refused(
    folder: Path, spoil: Callable[[Any], Any], sentence: str
) -> None:
    path = folder / "items.json"
    write_json(path, spoil(read_json(path)))
    with pytest.raises(ArtifactError, match=sentence):
        ItemModel.load(folder)


def test_a_folder_that_holds_something_else_is_refused(folder: Path, fitted: Fitted) -> None:
    (folder / "items.json").write_text("{")
    for use in (fitted[0].keep, ItemModel.load):
        with pytest.raises(ArtifactError, match=r"items\.json is not valid JSON"):
            use(folder)
    (folder / "items.json").unlink()
    with pytest.raises(ArtifactError, match=r"items\.json does not exist"):
        ItemModel.load(folder)


def test_encoders_and_options_that_are_not_there(folder: Path) -> None:
    path = folder / "items.json"
    meta = read_json(path)
    write_json(path, change(meta, "encoder/options", {"text_dim": 0}))
    with pytest.raises(ConfigError, match=r"items\.options\.text_dim"):
        ItemModel.load(folder)
    write_json(path, change(meta, "encoder/kind", "elsewhere"))
    with pytest.raises(ConfigError, match="unknown item encoder 'elsewhere'"):
        ItemModel.load(folder)


@pytest.mark.parametrize(
    ("part", "name", "value", "sentence"),
    [
        ("reduction", "centre", None, "lacks the tensor 'centre'"),
        ("reduction", "centre", torch.zeros(3), "makes 8 latents, not 3"),
        ("reduction", "centre", torch.full((8,), torch.nan), "holds NaN"),
        ("reduction", "factor", torch.ones(1), r"must be torch.float32 of shape \(\)"),
        ("reduction", "factor", torch.tensor(1), "is torch.int64"),
        ("reduction", "projection.std", torch.tensor(0.0, dtype=torch.float64), "must be > 0"),
        ("reduction", "projection.0.weight", None, "lacks the tensor '0.weight'"),
        ("reduction", "projection.0.weight", torch.zeros(32, 3), r"of shape \(any, 40\)"),
        ("reduction", "projection.2.bias", torch.zeros(3), r"'2.bias' must be"),
        ("reduction", "projection.axes", torch.zeros(9, 40), "has 9 axes for 8"),
        ("base_codes", "mean", torch.zeros(3), "'centres' must be"),
        ("base_codes", "used", torch.tensor([8, 9]), r"\[8, 9\] of 8 codes are in use"),
        ("base_codes", "used", torch.tensor([0, 8]), "are in use"),
        ("semantic_ids", "books", torch.zeros(2, 4, 7), "'books' must be"),
        ("semantic_ids", "network.mean", torch.zeros(3), "'0.weight' must be"),
    ],
)
def test_parts_of_wrong_shape_are_refused(
    folder: Path, part: str, name: str, value: Tensor | None, sentence: str
) -> None:
    path = folder / f"{part}.safetensors"
    tensors = {key: tensor.clone() for key, tensor in read_tensors(path).items() if key != name}
    if value is not None:
        tensors[name] = value
    write_tensors(path, tensors)
    meta = read_json(folder / "items.json")
    meta["parts"][part] = State(tensors, meta["parts"][part]["settings"]).description()
    write_json(folder / "items.json", meta)
    with pytest.raises(ArtifactError, match=sentence):
        ItemModel.load(folder)


@pytest.mark.parametrize(
    ("part", "other"),
    [("base_codes", {"dim": 5}), ("semantic_ids", {"options": {"text_dim": 20}})],
)
def test_parts_that_do_not_fit_each_other_are_refused(
    folder: Path,
    catalogue: Catalogue,
    small: ItemsConfig,
    tmp_path: Path,
    part: str,
    other: dict[str, Any],
) -> None:
    config = small.model_copy(update={"base_codes": CODED, **other})
    items = pretrain(catalogue, config)
    model = model_of(items)
    model.coder = semantic_ids(items, config, 2, 4).coder
    model.keep(tmp_path / "other")
    (folder / f"{part}.safetensors").unlink()
    (tmp_path / "other" / f"{part}.safetensors").rename(folder / f"{part}.safetensors")
    meta, foreign = (read_json(place / "items.json") for place in (folder, tmp_path / "other"))
    write_json(folder / "items.json", change(meta, f"parts/{part}", foreign["parts"][part]))
    with pytest.raises(ArtifactError, match=f"{part} and reduction"):
        ItemModel.load(folder)
