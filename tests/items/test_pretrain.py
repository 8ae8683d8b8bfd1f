"""From a catalogue to base and codes, with and without a cache."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from fedpeft.data import Catalogue
from fedpeft.errors import ArtifactError, CollapseError, ConfigError, DataError
from fedpeft.files import fingerprint
from fedpeft.items import (
    BaseCodesConfig,
    Items,
    ItemsConfig,
    State,
    default_cache,
    pretrain,
    residual_kmeans,
    semantic_ids,
)
from fedpeft.items.coded import unpack_coded
from fedpeft.items.encoders.tfidf import TfidfEncoder

from .conftest import catalogue_of


def same(first: Items, second: Items) -> bool:
    return (
        torch.equal(first.base, second.base)
        and first.fingerprint == second.fingerprint
        and first.report == second.report
    )


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grow by one whenever an encoder is really fitted."""
    calls: list[int] = []
    real = TfidfEncoder.fit

    def counting(self: TfidfEncoder, catalogue: Catalogue) -> State:
        calls.append(len(catalogue))
        return real(self, catalogue)

    monkeypatch.setattr(TfidfEncoder, "fit", counting)
    return calls


@pytest.mark.parametrize("base", ["autoencoder", "svd"])
def test_base_is_normalised_and_follows_topics(
    catalogue: Catalogue, small: ItemsConfig, base: str
) -> None:
    items = pretrain(catalogue, small.model_copy(update={"base": base, "scale": 0.3}))
    assert items.base.shape == (60, 8)
    assert items.base.dtype == torch.float32
    torch.testing.assert_close(items.base.mean(dim=0), torch.zeros(8), atol=1e-6, rtol=0)
    assert float(items.base.std(correction=0)) == pytest.approx(0.3, rel=1e-4)
    alike = torch.nn.functional.normalize(items.base, dim=1)
    nearest = (alike @ alike.T).fill_diagonal_(-2).argmax(dim=1)
    assert (nearest % 4 == torch.arange(60) % 4).float().mean() > 0.8
    assert items.fingerprint == fingerprint(items.base)
    assert items.report["text_dim"] == 40
    assert items.report["unexplained"] < 0.9
    json.dumps(items.report, allow_nan=False)


def test_a_coded_base_is_what_its_codes_stand_for(catalogue: Catalogue, small: ItemsConfig) -> None:
    plain = pretrain(catalogue, small)
    coding = BaseCodesConfig(levels=2, codes=8)
    coded = pretrain(catalogue, small.model_copy(update={"base_codes": coding}))
    chosen, books = residual_kmeans(plain.base, levels=2, codes=8, seed=small.seed)
    assert torch.equal(coded.base, books[0][chosen[:, 0]] + books[1][chosen[:, 1]])
    assert plain.coded is None
    assert coded.coded is not None
    assert len(coded.coded) == 5 + 60 * 2 * 3 // 8 + 4 * 2 * 8 * 8
    assert torch.equal(unpack_coded(coded.coded, 60, 8), coded.base)
    lost = (plain.base - coded.base).square().sum() / plain.base.square().sum()
    assert coded.report["lost_to_codes"] == pytest.approx(float(lost))
    assert 0 < float(lost) < 0.5
    assert coded.fingerprint == fingerprint(coded.base) != plain.fingerprint


def test_no_base_needs_no_text(small: ItemsConfig, encoded: list[int]) -> None:
    items = pretrain(catalogue_of(["", ""]), small.model_copy(update={"base": "none"}))
    assert torch.equal(items.base, torch.zeros(2, 8))
    assert items.inputs is None
    assert not encoded
    with pytest.raises(ConfigError, match="have no input vectors"):
        semantic_ids(items, small, 2, 4)


@pytest.mark.parametrize("base", ["autoencoder", "svd"])
def test_items_without_text_stay_neutral(
    catalogue: Catalogue, small: ItemsConfig, base: str
) -> None:
    config = small.model_copy(update={"base": base})
    texts = ["", *catalogue.texts, " "]
    items = pretrain(catalogue_of(texts), config)
    assert not items.base[[0, -1]].any()
    assert torch.isfinite(items.base).all()
    assert items.report["items_without_text"] == 2
    codes = semantic_ids(items, config, 2, 4)
    assert torch.equal(codes.codes[0], codes.codes[-1])
    assert torch.isfinite(codes.codebooks).all()


@pytest.mark.parametrize("base", ["autoencoder", "svd"])
@pytest.mark.parametrize("texts", [["one word"], ["same text"] * 5, ["same text", "", ""]])
def test_texts_that_say_nothing_are_refused(
    small: ItemsConfig, base: str, texts: list[str]
) -> None:
    with pytest.raises(CollapseError, match=r"set items\.base to 'none'"):
        pretrain(catalogue_of(texts), small.model_copy(update={"base": base}))


def test_an_empty_catalogue_is_refused(small: ItemsConfig) -> None:
    with pytest.raises(DataError, match="no items"):
        pretrain(catalogue_of([]), small)


def test_two_items(small: ItemsConfig) -> None:
    items = pretrain(catalogue_of(["red apple", "green pear"]), small)
    assert torch.isfinite(items.base).all()
    codes = semantic_ids(items, small, 2, 4)
    assert not torch.equal(codes.codes[0], codes.codes[1])


def test_deterministic_with_and_without_cache(
    catalogue: Catalogue, small: ItemsConfig, tmp_path: Path, encoded: list[int]
) -> None:
    plain = pretrain(catalogue, small)
    written = pretrain(catalogue, small, cache=tmp_path)
    assert len(encoded) == 2
    read = pretrain(catalogue, small, cache=tmp_path)
    assert len(encoded) == 2
    assert same(plain, written)
    assert same(plain, read)
    assert read.inputs is not None
    assert plain.inputs is not None
    assert torch.equal(plain.inputs, read.inputs)
    first = semantic_ids(plain, small, 2, 4)
    semantic_ids(plain, small, 2, 4, cache=tmp_path)
    again = semantic_ids(read, small, 2, 4, cache=tmp_path)
    assert torch.equal(first.codes, again.codes)
    assert torch.equal(first.codebooks, again.codebooks)
    assert first.report == again.report


def test_only_what_depends_on_a_change_is_made_anew(
    catalogue: Catalogue, small: ItemsConfig, tmp_path: Path, encoded: list[int]
) -> None:
    first = pretrain(catalogue, small, cache=tmp_path)
    scaled = pretrain(catalogue, small.model_copy(update={"scale": 0.2}), cache=tmp_path)
    torch.testing.assert_close(scaled.base, 2 * first.base)
    assert len(encoded) == 1
    other = catalogue_of(["changed text", *catalogue.texts[1:]])
    assert not same(pretrain(other, small, cache=tmp_path), first)
    assert len(encoded) == 2
    narrow = small.model_copy(update={"options": {"text_dim": 20}})
    assert pretrain(catalogue, narrow, cache=tmp_path).report["text_dim"] == 20
    assert len(encoded) == 3
    stages: list[str] = []
    pretrain(catalogue, small, cache=tmp_path, progress=lambda stage, _: stages.append(stage))
    assert not stages


def test_progress_names_the_stages(catalogue: Catalogue, small: ItemsConfig) -> None:
    seen: list[tuple[str, float]] = []
    items = pretrain(catalogue, small, progress=lambda stage, done: seen.append((stage, done)))
    semantic_ids(items, small, 2, 4, progress=lambda stage, done: seen.append((stage, done)))
    ends = [stage for stage, done in seen if done == 1.0]
    assert ends == ["encode", "autoencoder", "rqvae"]


@pytest.mark.parametrize("kind", ["encoder", "inputs", "reduction", "base"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "report", "other"])
def test_a_damaged_entry_is_made_anew(
    catalogue: Catalogue,
    small: ItemsConfig,
    tmp_path: Path,
    damage: str,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = pretrain(catalogue, small, cache=tmp_path)
    (tensors,) = tmp_path.glob(f"{kind}-*.safetensors")
    (report,) = tmp_path.glob(f"{kind}-*.json")
    content = tensors.read_bytes()
    if damage == "cut":
        tensors.write_bytes(content[:-7])
    elif damage == "flip":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "remove":
        tensors.unlink()
    elif damage == "report":
        report.write_text("{")
    else:
        report.write_text("[1]")
    with caplog.at_level(logging.WARNING):
        assert same(pretrain(catalogue, small, cache=tmp_path), first)
    assert "made anew" in caplog.text
    caplog.clear()
    assert same(pretrain(catalogue, small, cache=tmp_path), first)
    assert not caplog.records
    assert tensors.read_bytes() == content


def test_an_unfinished_entry_is_not_used(
    catalogue: Catalogue, small: ItemsConfig, tmp_path: Path
) -> None:
    first = pretrain(catalogue, small, cache=tmp_path)
    next(tmp_path.glob("base-*.json")).unlink()
    assert same(pretrain(catalogue, small, cache=tmp_path), first)


def test_a_cache_that_cannot_be_written(
    catalogue: Catalogue, small: ItemsConfig, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"cannot be written .* set FEDPEFT_CACHE"):
        pretrain(catalogue, small, cache=tmp_path / "file")


@pytest.mark.parametrize(("levels", "codes"), [(0, 4), (2, 0)])
def test_counts_below_one(
    catalogue: Catalogue, small: ItemsConfig, levels: int, codes: int
) -> None:
    items = pretrain(catalogue, small.model_copy(update={"base": "svd"}))
    with pytest.raises(ConfigError, match="must be >= 1"):
        semantic_ids(items, small, levels, codes)


def test_default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDPEFT_CACHE", str(tmp_path / "own"))
    assert default_cache() == tmp_path / "own"
    monkeypatch.delenv("FEDPEFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "fedpeft"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache() == Path.home() / ".cache" / "fedpeft"


def test_a_random_base_reads_no_text() -> None:
    bare = Catalogue(["a", "b", "c"], ["a", "b", "c"], ["", "", ""])
    found = pretrain(bare, ItemsConfig(base="random", dim=400, scale=0.5))
    assert (found.inputs, found.model, found.report) == (None, None, {"base": "random"})
    assert float(found.base.std()) == pytest.approx(0.5, rel=0.1)
    again = pretrain(bare, ItemsConfig(base="random", dim=400, scale=0.5, seed=1))
    assert again.fingerprint != found.fingerprint
