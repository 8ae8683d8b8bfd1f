"""Texts and files to input vectors; every malformed file gets one clear sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fedpeft.data import Catalogue
from fedpeft.errors import ArtifactError, ConfigError, DataError, FedpeftError, MissingExtraError
from fedpeft.items import Encoder, State, encoders
from fedpeft.items.encoders import Floats

from .conftest import catalogue_of


def encoder(name: str, **options: Any) -> Encoder:
    part = encoders.get(name)
    return part.build(part.config.model_validate(options))


def encode(made: Encoder, catalogue: Catalogue) -> Floats:
    return made.transform(made.fit(catalogue), catalogue)


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


THREE = catalogue_of(["x", "y", "z"])  # ids 10, 11, 12
GOOD = np.arange(6, dtype=np.float32).reshape(3, 2)


class TestArray:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_npy(self, tmp_path: Path, dtype: type) -> None:
        np.save(tmp_path / "v.npy", GOOD.astype(dtype))
        vectors = encode(encoder("array", path=tmp_path / "v.npy"), THREE)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, GOOD)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
    def test_safetensors(self, tmp_path: Path, dtype: torch.dtype) -> None:
        save_file({"any": torch.from_numpy(GOOD).to(dtype)}, tmp_path / "v.safetensors")
        vectors = encode(encoder("array", path=tmp_path / "v.safetensors"), THREE)
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, GOOD)

    @pytest.mark.parametrize("kind", ["txt", "text", "integer"])
    def test_ids_align_rows(self, tmp_path: Path, kind: str) -> None:
        np.save(tmp_path / "v.npy", np.arange(8.0).reshape(4, 2))
        ids = tmp_path / ("ids.txt" if kind == "txt" else "ids.npy")
        order = ["12", "99", "10", "11"]
        if kind == "txt":
            ids.write_text("\n".join(order) + "\n")
        else:
            np.save(ids, np.array(order) if kind == "text" else np.array([int(i) for i in order]))
        vectors = encode(encoder("array", path=tmp_path / "v.npy", ids=ids), THREE)
        np.testing.assert_array_equal(vectors, [[4, 5], [6, 7], [0, 1]])

    def test_identity_is_the_content(self, tmp_path: Path) -> None:
        np.save(tmp_path / "v.npy", GOOD)
        vectors = encoder("array", path=tmp_path / "v.npy")
        before = vectors.identity()
        np.save(tmp_path / "v.npy", GOOD + 1)
        assert vectors.identity() != before
        with pytest.raises(DataError, match="cannot be read"):
            encoder("array", path=tmp_path / "w.npy").identity()

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            (GOOD[:2], "has 2 rows but the catalogue has 3 items"),
            (np.zeros((0, 2)), "has 0 rows"),
            (GOOD[:, 0], r"must have shape \(rows, D\)"),
            (GOOD[:, :0], r"must have shape \(rows, D\)"),
            (GOOD[None], r"must have shape \(rows, D\)"),
            (np.float32(3), r"must have shape \(rows, D\)"),
            (GOOD.astype(np.int64), "must hold floating-point numbers, holds int64"),
            (GOOD.astype(np.complex64), "holds complex64"),
            (GOOD.astype(str), "must hold floating-point"),
            (GOOD.astype(object), "pickled Python objects, which are refused"),
            (np.where(GOOD == 3, np.nan, GOOD), "row 1 holds NaN"),
            (np.where(GOOD == 4, -np.inf, GOOD), "row 2 holds NaN, an infinity"),
            (np.where(GOOD == 0, 1e300, GOOD.astype(np.float64)), "row 0 .* beyond float32"),
        ],
    )
    def test_malformed_values(self, tmp_path: Path, values: np.ndarray, sentence: str) -> None:
        np.save(tmp_path / "v.npy", values, allow_pickle=True)
        with pytest.raises(DataError, match=sentence):
            encode(encoder("array", path=tmp_path / "v.npy"), THREE)

    @pytest.mark.parametrize(
        ("name", "content", "sentence"),
        [
            ("v.npy", None, "cannot be read: No such file"),
            ("v.npy", b"", "not a readable .npy"),
            ("v.npy", b"PK\x03\x04", "not a readable .npy"),
            ("v.npy", b"\x80\x04K\x01.", "not a readable"),
            ("v.npy", b"half", "not a readable .npy"),
            ("v.safetensors", None, "does not exist"),
            ("v.safetensors", b"nonsense", "not a readable safetensors"),
        ],
    )
    def test_malformed_files(
        self, tmp_path: Path, name: str, content: bytes | None, sentence: str
    ) -> None:
        path = tmp_path / name
        if content == b"half":
            np.save(path, GOOD)
            content = path.read_bytes()[:-5]
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=sentence) as caught:
            encode(encoder("array", path=path), THREE)
        assert str(path) in str(caught.value)

    def test_an_archive_is_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "v.npz", GOOD)
        (tmp_path / "v.npz").rename(tmp_path / "v.npy")
        with pytest.raises(DataError, match=r"not a readable \.npy"):
            encode(encoder("array", path=tmp_path / "v.npy"), THREE)

    def test_two_tensors_are_refused(self, tmp_path: Path) -> None:
        save_file({"a": torch.zeros(3, 2), "b": torch.zeros(3, 2)}, tmp_path / "v.safetensors")
        with pytest.raises(DataError, match=r"must hold one tensor, holds 2"):
            encode(encoder("array", path=tmp_path / "v.safetensors"), THREE)

    @pytest.mark.parametrize(
        ("ids", "sentence"),
        [
            (["10", "11"], "names 2 ids but the array has 3 rows"),
            (["10", "11", "11"], "names id '11' more than once"),
            (["10", "7", "8"], "no row for 2 of 3 items, the first is id '11'"),
        ],
    )
    def test_wrong_ids(self, tmp_path: Path, ids: list[str], sentence: str) -> None:
        np.save(tmp_path / "v.npy", GOOD)
        (tmp_path / "ids.txt").write_text("\n".join(ids))
        with pytest.raises(DataError, match=sentence):
            encode(encoder("array", path=tmp_path / "v.npy", ids=tmp_path / "ids.txt"), THREE)

    @pytest.mark.parametrize("values", [GOOD, np.zeros(3), np.array([{}, 1, 2], dtype=object)])
    def test_malformed_id_arrays(self, tmp_path: Path, values: np.ndarray) -> None:
        np.save(tmp_path / "v.npy", GOOD)
        np.save(tmp_path / "ids.npy", values, allow_pickle=True)
        with pytest.raises(DataError, match=r"ids\.npy"):
            encode(encoder("array", path=tmp_path / "v.npy", ids=tmp_path / "ids.npy"), THREE)

    def test_malformed_id_text(self, tmp_path: Path) -> None:
        np.save(tmp_path / "v.npy", GOOD)
        ids = tmp_path / "ids.txt"
        made = encoder("array", path=tmp_path / "v.npy", ids=ids)
        with pytest.raises(DataError, match="No such file"):
            encode(made, THREE)
        ids.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(FedpeftError, match="not UTF-8"):
            encode(made, THREE)
