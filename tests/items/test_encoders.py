"""Texts to input vectors."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from fedpeft.data import Catalogue
from fedpeft.errors import ArtifactError, ConfigError, DataError, MissingExtraError
from fedpeft.items import State

from .conftest import catalogue_of, encode, encoder


class TestTfidf:
    def test_rows_have_length_one_and_follow_topics(self, catalogue: Catalogue) -> None:
        vectors = encode(encoder("tfidf", text_dim=40), catalogue)
        assert vectors.shape == (60, 40)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
        alike = vectors @ vectors.T
        same = np.arange(60)[:, None] % 4 == np.arange(60) % 4
        np.fill_diagonal(alike, np.nan)
        assert np.nanmean(alike[same]) > 0.1 + np.nanmean(alike[~same])

    def test_is_deterministic(self, catalogue: Catalogue) -> None:
        first, second = (encode(encoder("tfidf", text_dim=40), catalogue) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_a_small_vocabulary_is_not_projected(self) -> None:
        vectors = encode(encoder("tfidf"), catalogue_of(["red apple", "apple", "red pear"]))
        assert vectors.shape == (3, 3)  # apple, pear, red
        np.testing.assert_allclose(vectors[1], [1, 0, 0])

    def test_has_no_more_columns_than_items(self, catalogue: Catalogue) -> None:
        few = catalogue_of(list(catalogue.texts[:5]))
        assert encode(encoder("tfidf", text_dim=20), few).shape == (5, 5)

    @pytest.mark.parametrize("text_dim", [40, 768])
    def test_new_items_are_encoded_like_old_ones(self, catalogue: Catalogue, text_dim: int) -> None:
        made = encoder("tfidf", text_dim=text_dim)
        state = made.fit(catalogue)
        whole = made.transform(state, catalogue)
        some = made.transform(state, catalogue_of([catalogue.texts[7], "unheard"]))
        np.testing.assert_allclose(some[0], whole[7], rtol=1e-5, atol=1e-6)
        assert not some[1].any()

    @pytest.mark.parametrize(
        ("name", "tensor"),
        [("vocabulary", None), ("idf", torch.ones(3)), ("projection", torch.ones(3, 40))],
    )
    def test_a_state_of_something_else_is_refused(
        self, catalogue: Catalogue, name: str, tensor: torch.Tensor | None
    ) -> None:
        made = encoder("tfidf", text_dim=40)
        tensors = {key: each for key, each in made.fit(catalogue).tensors.items() if key != name}
        other = State(tensors if tensor is None else {**tensors, name: tensor})
        with pytest.raises(ArtifactError, match=name):
            made.transform(other, catalogue)

    @pytest.mark.parametrize("text_dim", [1, 2, 768])
    @pytest.mark.parametrize("n", [1, 2])
    def test_one_or_two_items(self, n: int, text_dim: int) -> None:
        vectors = encode(encoder("tfidf", text_dim=text_dim), catalogue_of(["alpha beta"] * n))
        assert np.isfinite(vectors).all()
        np.testing.assert_allclose(vectors, np.tile(vectors[:1], (n, 1)), rtol=1e-5)

    def test_an_item_without_known_words_is_a_row_of_zeros(self, catalogue: Catalogue) -> None:
        texts = ["", "   ", "the of and", *catalogue.texts]
        vectors = encode(encoder("tfidf", text_dim=40), catalogue_of(texts))
        assert not vectors[:3].any()
        assert vectors[3:].any(axis=1).all()

    def test_a_sample_fits_the_vocabulary_for_all(self, catalogue: Catalogue) -> None:
        vectors = encode(encoder("tfidf", text_dim=8, sample=30), catalogue)
        assert vectors.shape == (60, 8)
        assert np.isfinite(vectors).all()
        assert (vectors.any(axis=1)).mean() > 0.9
        other = encode(encoder("tfidf", text_dim=8, sample=30, seed=1), catalogue)
        assert not np.array_equal(vectors, other)

    @pytest.mark.parametrize("texts", [[""], ["", " "], ["the"]])
    def test_no_text_at_all_is_refused(self, texts: list[str]) -> None:
        with pytest.raises(DataError, match=r"none of the .* items\.base to 'none'"):
            encode(encoder("tfidf"), catalogue_of(texts))


class FakeModel:
    """Stands in for a sentence-transformers model: counts letters."""

    seen: tuple[list[str], dict[str, Any]]

    def __init__(self, name: str) -> None:
        if name == "not/there":
            raise OSError("We couldn't connect to the hub.\nCheck your connection.")
        self.name = name

    def encode(self, texts: list[str], **options: Any) -> np.ndarray:
        FakeModel.seen = (texts, options)
        return np.array([[text.count("a"), text.count("b"), 1] for text in texts], dtype=np.float64)


class TestSentenceTransformers:
    @pytest.fixture
    def library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = ModuleType("sentence_transformers")
        module.SentenceTransformer = FakeModel  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "sentence_transformers", module)

    @pytest.mark.usefixtures("library")
    def test_encodes_the_items_that_have_text(self) -> None:
        vectors = encode(
            encoder("sentence_transformers", batch_size=7), catalogue_of(["ab", "", "aab", " "])
        )
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors[0], np.array([1, 1, 1]) / np.sqrt(3), rtol=1e-6)
        np.testing.assert_allclose(vectors[2], np.array([2, 1, 1]) / np.sqrt(6), rtol=1e-6)
        assert not vectors[[1, 3]].any()
        texts, options = FakeModel.seen
        assert texts == ["ab", "aab"]
        assert options["batch_size"] == 7

    @pytest.mark.usefixtures("library")
    def test_new_items_without_text_have_the_width_of_the_others(self) -> None:
        made = encoder("sentence_transformers")
        vectors = made.transform(made.fit(catalogue_of(["ab"])), catalogue_of(["", " "]))
        assert vectors.shape == (2, 3)
        assert not vectors.any()

    @pytest.mark.usefixtures("library")
    def test_a_model_folder_that_changed_after_fitting(self, tmp_path: Path) -> None:
        (tmp_path / "weights").write_bytes(b"1")
        made = encoder("sentence_transformers", model=str(tmp_path))
        state = made.fit(catalogue_of(["ab"]))
        (tmp_path / "weights").write_bytes(b"2")
        with pytest.raises(ArtifactError, match="has changed since"):
            made.transform(state, catalogue_of(["ab"]))

    @pytest.mark.usefixtures("library")
    def test_a_model_that_cannot_be_loaded(self) -> None:
        with pytest.raises(ConfigError, match="'not/there' cannot be loaded") as caught:
            encode(encoder("sentence_transformers", model="not/there"), catalogue_of(["a"]))
        assert "couldn't connect" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.usefixtures("library")
    def test_no_text_at_all(self) -> None:
        with pytest.raises(DataError, match="none of the 2 items has text"):
            encode(encoder("sentence_transformers"), catalogue_of(["", " "]))

    def test_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'fedpeft\[text\]'"):
            encode(encoder("sentence_transformers"), catalogue_of(["a"]))

    def test_a_model_folder_is_known_by_its_contents(self, tmp_path: Path) -> None:
        (tmp_path / "weights").write_bytes(b"1")
        model = encoder("sentence_transformers", model=str(tmp_path))
        before = model.identity()
        assert model.identity() == before
        (tmp_path / "weights").write_bytes(b"2")
        assert model.identity() != before
