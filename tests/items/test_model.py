"""The item model: rows and codes of items that arrive after fitting, from files alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor

from fedpeft.config import ConfigModel
from fedpeft.data import Catalogue
from fedpeft.errors import ArtifactError, ConfigError, DataError
from fedpeft.files import read_json, read_tensors, write_json, write_tensors
from fedpeft.items import (
    BaseCodesConfig,
    ItemModel,
    Items,
    ItemsConfig,
    State,
    encoders,
    pretrain,
    semantic_codes,
)

from .conftest import catalogue_of

CODED = BaseCodesConfig(levels=2, codes=8)
ALL = ["encoder", "reduction", "base_codes", "semantic_codes"]


def model_of(items: Items) -> ItemModel:
    assert items.model is not None
    return items.model


@pytest.fixture(scope="module")
def fitted(catalogue: Catalogue, small: ItemsConfig) -> tuple[ItemModel, Catalogue, Tensor, Tensor]:
    """A model with all parts, its catalogue (two items have no text), their rows and codes."""
    known = catalogue_of(["", *catalogue.texts, " "])
    config = small.model_copy(update={"base_codes": CODED})
    items = pretrain(known, config)
    made = semantic_codes(items, config, 2, 4)
    model = model_of(items)
    model.coder = made.coder
    return model, known, items.base, made.codes


@pytest.fixture
def folder(fitted: tuple[ItemModel, Any, Any, Any], tmp_path: Path) -> Path:
    fitted[0].keep(tmp_path / "items")
    return tmp_path / "items"


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("base", ["autoencoder", "svd"])
@pytest.mark.parametrize("dim", [8, 50])
def test_saved_and_loaded_it_gives_known_items_their_rows(
    catalogue: Catalogue, small: ItemsConfig, tmp_path: Path, base: str, dim: int, coded: bool
) -> None:
    settings = {"base": base, "dim": dim, "base_codes": CODED if coded else None}
    config = small.model_copy(update=settings)
    known = catalogue_of(["", *catalogue.texts, "the of"])
    items = pretrain(known, config)
    made = semantic_codes(items, config, 3, 4)
    model = model_of(items)
    model.coder = made.coder
    model.keep(tmp_path)
    loaded = ItemModel.load(tmp_path)
    for each in (model, loaded):
        assert torch.equal(each.base_rows(known), items.base)
        assert torch.equal(each.semantic_codes(known), made.codes)
    if coded:
        codes = loaded.base_codes(known)
        assert codes.shape == (len(known), 2)
        assert loaded.base_books is not None
        assert torch.equal(loaded.base_books.decode(codes), items.base)
    else:
        assert not loaded.base_rows(known)[[0, -1]].any()


def test_new_items_get_rows_and_codes(
    fitted: tuple[ItemModel, Catalogue, Tensor, Tensor], small: ItemsConfig
) -> None:
    _, known, _, codes = fitted
    plain = pretrain(known, small)
    model = model_of(plain)
    words = known.texts[5].split()
    new = catalogue_of([known.texts[5], " ".join([*words[:4], "unheard"]), "", "unheard of"])
    rows = model.base_rows(new)
    assert rows.shape == (4, 8)
    assert rows.dtype == torch.float32
    assert torch.isfinite(rows).all()
    torch.testing.assert_close(rows[0], plain.base[5], atol=1e-6, rtol=1e-4)
    alike = torch.nn.functional.cosine_similarity(rows[1:2], plain.base[1:-1])
    assert int(alike.argmax()) % 4 == 0  # the topic of item 5, which is the fifth of the catalogue
    assert not rows[2:].any()
    made = fitted[0].semantic_codes(new)
    assert torch.equal(made[0], codes[5])
    assert torch.equal(made[2], codes[0])
    assert made.dtype == torch.int64


def test_no_items_are_no_rows(fitted: tuple[ItemModel, Any, Any, Any]) -> None:
    model, none = fitted[0], catalogue_of([])
    assert model.base_rows(none).shape == (0, 8)
    assert model.base_codes(none).shape == model.semantic_codes(none).shape == (0, 2)


def test_what_was_not_fitted_is_refused(catalogue: Catalogue, small: ItemsConfig) -> None:
    model = model_of(pretrain(catalogue, small.model_copy(update={"base": "svd"})))
    with pytest.raises(ConfigError, match=r"set items\.base_codes"):
        model.base_codes(catalogue)
    with pytest.raises(ConfigError, match=r"adapter\.source = 'text'"):
        model.semantic_codes(catalogue)
    assert pretrain(catalogue, small.model_copy(update={"base": "none"})).model is None


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
        model.coder = semantic_codes(items, small, 2, 4, cache=cache).coder
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
    model.coder = semantic_codes(items, small, 2, 4).coder
    model.keep(tmp_path)
    after = contents(tmp_path)
    assert after.keys() - before.keys() == {"semantic_codes.safetensors"}
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


def test_a_folder_that_holds_something_else_is_refused(
    folder: Path, fitted: tuple[ItemModel, Any, Any, Any]
) -> None:
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
        ("semantic_codes", "books", torch.zeros(2, 4, 7), "'books' must be"),
        ("semantic_codes", "network.mean", torch.zeros(3), "'0.weight' must be"),
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
    [("base_codes", {"dim": 5}), ("semantic_codes", {"options": {"text_dim": 20}})],
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
    model.coder = semantic_codes(items, config, 2, 4).coder
    model.keep(tmp_path / "other")
    (folder / f"{part}.safetensors").unlink()
    (tmp_path / "other" / f"{part}.safetensors").rename(folder / f"{part}.safetensors")
    meta, foreign = (read_json(place / "items.json") for place in (folder, tmp_path / "other"))
    write_json(folder / "items.json", change(meta, f"parts/{part}", foreign["parts"][part]))
    with pytest.raises(ArtifactError, match=f"{part} and reduction"):
        ItemModel.load(folder)


class TestVectorsThatAreLookedUp:
    def model(self, tmp_path: Path, catalogue: Catalogue, ids: list[str] | None) -> ItemModel:
        rows = len(catalogue) if ids is None else len(ids)
        vectors = np.random.default_rng(0).normal(size=(rows, 6))
        np.save(tmp_path / "v.npy", vectors)
        options = {"path": str(tmp_path / "v.npy")}
        if ids is not None:
            (tmp_path / "ids.txt").write_text("\n".join(ids))
            options["ids"] = str(tmp_path / "ids.txt")
        config = ItemsConfig(encoder="array", options=options, base="svd", dim=3)
        model_of(pretrain(catalogue, config)).keep(tmp_path / "items")
        return ItemModel.load(tmp_path / "items")

    @pytest.mark.parametrize("ids", [None, ["12", "11", "10"]])
    def test_a_new_item_is_refused(self, tmp_path: Path, ids: list[str] | None) -> None:
        known = catalogue_of(["x", "y", "z"])
        model = self.model(tmp_path, known, ids)
        whole = model.base_rows(known)
        one = Catalogue(ids=["12"], titles=["z"], texts=["z"])
        torch.testing.assert_close(model.base_rows(one), whole[2:])
        with pytest.raises(DataError, match="no row for 1 of 4 items, the first is id '13'"):
            model.base_rows(catalogue_of(["x", "y", "z", "new"]))

    def test_a_new_item_with_a_vector_gets_a_row(self, tmp_path: Path) -> None:
        model = self.model(tmp_path, catalogue_of(["x", "y", "z"]), ["10", "11", "12", "13"])
        rows = model.base_rows(catalogue_of(["x", "y", "z", "new"]))
        assert rows[3].any()

    def test_vectors_that_have_changed_are_refused(self, tmp_path: Path) -> None:
        known = catalogue_of(["x", "y", "z"])
        model = self.model(tmp_path, known, None)
        np.save(tmp_path / "v.npy", np.ones((3, 6)))
        with pytest.raises(ArtifactError, match=r"v\.npy or its ids file has changed"):
            model.base_rows(known)


class LengthsConfig(ConfigModel):
    """Options of an encoder from elsewhere."""

    returns: str = Field(default="good")
    """What it does."""


class Lengths:
    """A package's own encoder: how long texts are, against the longest it was fitted on."""

    wide = False

    def __init__(self, config: LengthsConfig) -> None:
        self.config = config

    def identity(self) -> str:
        return "lengths 1"

    def fit(self, catalogue: Catalogue) -> State:
        return State(settings={"longest": max(map(len, catalogue.texts))})

    def transform(self, state: State, items: Catalogue) -> Any:
        longest = state.settings["longest"]
        values = np.array([[len(text) / longest, len(text) > 2] for text in items.texts])
        if Lengths.wide:
            return np.ones((len(items), 3), np.float32)
        made: dict[str, Any] = {
            "good": values.astype(np.float32),
            "double": values,
            "list": values.tolist(),
            "flat": values[:, 0].astype(np.float32),
            "short": values[:-1].astype(np.float32),
            "empty": values[:, :0].astype(np.float32),
            "nan": np.full_like(values, np.nan, dtype=np.float32),
        }
        return made[self.config.returns]


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(Lengths, "wide", False)
    encoders.register("lengths", config=LengthsConfig, build=Lengths)
    yield
    encoders.unregister("lengths")


@pytest.mark.usefixtures("lengths")
class TestEncoderOfAnotherPackage:
    def test_it_is_kept_like_any_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = catalogue_of(["", "a", "bb", "ccc"])
        items = pretrain(known, ItemsConfig(encoder="lengths", base="svd", dim=2))
        model_of(items).keep(tmp_path)
        settings = json.loads((tmp_path / "items.json").read_text())["parts"]["encoder"]["settings"]
        assert settings == {"longest": 3}
        loaded = ItemModel.load(tmp_path)
        assert torch.equal(loaded.base_rows(known), items.base)
        monkeypatch.setattr(Lengths, "wide", True)
        with pytest.raises(
            ConfigError, match="returns 3 columns, when it was fitted it returned 2"
        ):
            loaded.base_rows(known)

    @pytest.mark.parametrize(
        ("returns", "sentence"),
        [
            ("double", "must return float32, returns float64"),
            ("list", "must return float32, returns list"),
            ("flat", r"one row for each of 2 items, returns shape \(2,\)"),
            ("short", r"returns shape \(1, 2\)"),
            ("empty", r"returns shape \(2, 0\)"),
            ("nan", "returns NaN"),
        ],
    )
    def test_what_it_must_not_return(self, returns: str, sentence: str) -> None:
        config = ItemsConfig(encoder="lengths", options={"returns": returns}, dim=2)
        with pytest.raises(ConfigError, match=sentence):
            pretrain(catalogue_of(["a", "bb"]), config)
