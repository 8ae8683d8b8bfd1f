"""The item model: rows and codes of items that arrive after fitting."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedpeft.data import Catalogue
from fedpeft.errors import ConfigError
from fedpeft.items import (
    ItemModel,
    ItemsConfig,
    pretrain,
    semantic_ids,
)

from .conftest import CODED, Fitted, catalogue_of, model_of


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
    made = semantic_ids(items, config, 3, 4)
    model = model_of(items)
    model.coder = made.coder
    model.keep(tmp_path)
    loaded = ItemModel.load(tmp_path)
    for each in (model, loaded):
        assert torch.equal(each.base_rows(known), items.base)
        assert torch.equal(each.semantic_ids(known), made.codes)
    if coded:
        codes = loaded.base_codes(known)
        assert codes.shape == (len(known), 2)
        assert loaded.base_books is not None
        assert torch.equal(loaded.base_books.decode(codes), items.base)
    else:
        assert not loaded.base_rows(known)[[0, -1]].any()


def test_new_items_get_rows_and_codes(fitted: Fitted, small: ItemsConfig) -> None:
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
    made = fitted[0].semantic_ids(new)
    assert torch.equal(made[0], codes[5])
    assert torch.equal(made[2], codes[0])
    assert made.dtype == torch.int64


def test_no_items_are_no_rows(fitted: Fitted) -> None:
    model, none = fitted[0], catalogue_of([])
    assert model.base_rows(none).shape == (0, 8)
    assert model.base_codes(none).shape == model.semantic_ids(none).shape == (0, 2)


def test_what_was_not_fitted_is_refused(catalogue: Catalogue, small: ItemsConfig) -> None:
    model = model_of(pretrain(catalogue, small.model_copy(update={"base": "svd"})))
    with pytest.raises(ConfigError, match=r"set items\.base_codes"):
        model.base_codes(catalogue)
    with pytest.raises(ConfigError, match=r"adapter\.source = 'text'"):
        model.semantic_ids(catalogue)
    assert pretrain(catalogue, small.model_copy(update={"base": "none"})).model is None
