"""Encoders in an item model: vectors that are looked up, and encoders of other packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field

from fedpeft.config import ConfigModel
from fedpeft.data import Catalogue
from fedpeft.errors import ArtifactError, ConfigError, DataError
from fedpeft.items import (
    ItemModel,
    ItemsConfig,
    State,
    encoders,
    pretrain,
)

from .conftest import catalogue_of, model_of


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
