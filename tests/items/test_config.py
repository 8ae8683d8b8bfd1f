"""Settings are checked on construction, with one sentence each."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedpeft.config import parse
from fedpeft.errors import ConfigError
from fedpeft.items import ItemsConfig, encoders


def test_default_networks_are_those_of_the_paper() -> None:
    config = ItemsConfig()
    assert [config.options["text_dim"], *config.hidden, config.dim] == [768, 512, 256, 128, 32]


def test_options_are_completed_and_survive_a_round_trip() -> None:
    config = ItemsConfig(encoder="array", options={"path": "vectors.npy"})
    # absolute, so that a run folder reopens anywhere; no null, which TOML has not
    assert config.options == {"path": str(Path("vectors.npy").resolve())}
    assert ItemsConfig(options={"sample": 10}).options["max_features"] == 50_000
    assert parse(ItemsConfig, config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"dims": 3}, "unknown key 'items.dims'; known keys here are"),
        ({"dim": 0}, "items.dim = 0"),
        ({"scale": 0.0}, "items.scale"),
        ({"scale": float("nan")}, "items.scale"),
        ({"hidden": [64, 0]}, "items.hidden.1 = 0"),
        ({"base": "pca"}, "items.base = 'pca'"),
        ({"seed": -1}, "items.seed"),
        ({"encoder": "bert"}, "unknown item encoder 'bert'; known are array, sentence"),
        ({"options": {"dim": 3}}, "items.options: unknown key 'dim'; known keys here are"),
        ({"options": {"sample": 0}}, "items.options: sample = 0"),
        ({"encoder": "array"}, "items.options: path"),
        ({"encoder": "array", "options": {"path": "a.pkl"}}, "must end in .npy or .safetensors"),
        ({"encoder": "array", "options": {"path": "a.npy", "ids": "b.csv"}}, ".npy or .txt"),
        ({"autoencoder": {"epochs": 0}}, "items.autoencoder.epochs = 0"),
        ({"rqvae": {"estimator": "gumbel"}}, "items.rqvae.estimator = 'gumbel'"),
        ({"rqvae": {"commitment": -1}}, "items.rqvae.commitment = -1"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(ItemsConfig, values, "items")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_three_encoders_ship() -> None:
    assert encoders.names() == ["array", "sentence_transformers", "tfidf"]
