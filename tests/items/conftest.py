"""Catalogues and settings small enough to train on in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedpeft.data import Catalogue
from fedpeft.items import (
    BaseCodesConfig,
    Encoder,
    ItemModel,
    Items,
    ItemsConfig,
    encoders,
    pretrain,
    semantic_ids,
)
from fedpeft.items.encoders import Floats
from fedpeft.seeding import numpy_rng

CODED = BaseCodesConfig(levels=2, codes=8)
"""Few enough codes for a catalogue of 60 items."""
Fitted = tuple[ItemModel, Catalogue, Tensor, Tensor]


def catalogue_of(texts: list[str]) -> Catalogue:
    ids = [str(10 + row) for row in range(len(texts))]
    return Catalogue(ids=ids, titles=texts, texts=texts)


def encoder(name: str, **options: Any) -> Encoder:
    part = encoders.get(name)
    return part.build(part.config.model_validate(options))


def encode(made: Encoder, catalogue: Catalogue) -> Floats:
    return made.transform(made.fit(catalogue), catalogue)


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """60 items of 4 topics; each text is 8 words, 6 of them from its topic's 30 words."""
    rng = numpy_rng(0, "test", "catalogue")
    texts = []
    for item in range(60):
        topic = [f"topic{item % 4}word{word}" for word in rng.choice(30, 6, replace=False)]
        noise = [f"noise{word}" for word in rng.choice(200, 2, replace=False)]
        texts.append(" ".join(topic + noise))
    return catalogue_of(texts)


@pytest.fixture(scope="session")
def small() -> ItemsConfig:
    """Small networks, 8 dimensions."""
    training = {"epochs": 10, "batch_size": 16}
    return ItemsConfig(
        options={"text_dim": 40}, dim=8, hidden=(32, 16), autoencoder=training, rqvae=training
    )


@pytest.fixture(scope="session")
def inputs() -> torch.Tensor:
    """float32 of shape (300, 24): 12 clusters, no column or row alike."""
    rng = numpy_rng(0, "test", "inputs")
    centres = rng.normal(size=(12, 24))
    values = centres[np.arange(300) % 12] + 0.3 * rng.normal(size=(300, 24))
    return torch.from_numpy(values.astype(np.float32))


def model_of(items: Items) -> ItemModel:
    assert items.model is not None
    return items.model


@pytest.fixture(scope="session")
def fitted(catalogue: Catalogue, small: ItemsConfig) -> Fitted:
    """A model with all parts, its catalogue (two items have no text), their rows and codes."""
    known = catalogue_of(["", *catalogue.texts, " "])
    config = small.model_copy(update={"base_codes": CODED})
    items = pretrain(known, config)
    made = semantic_ids(items, config, 2, 4)
    model = model_of(items)
    model.coder = made.coder
    return model, known, items.base, made.codes


@pytest.fixture
def folder(fitted: Fitted, tmp_path: Path) -> Path:
    fitted[0].keep(tmp_path / "items")
    return tmp_path / "items"
