"""Catalogues and settings small enough to train on in a moment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedpeft.data import Catalogue
from fedpeft.items import ItemsConfig
from fedpeft.seeding import numpy_rng


def catalogue_of(texts: list[str]) -> Catalogue:
    ids = [str(10 + row) for row in range(len(texts))]
    return Catalogue(ids=ids, titles=texts, texts=texts)


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
