"""Quality on real catalogues: neighbours make sense and codes are used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fedpeft.data import Catalogue, DataConfig, load
from fedpeft.items import Items, ItemsConfig, pretrain, semantic_ids

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def neighbours(base: Tensor, item: int, count: int) -> list[int]:
    """Return the nearest other items by cosine."""
    unit = torch.nn.functional.normalize(base, dim=1)
    alike = unit @ unit[item]
    alike[item] = -2
    return [int(index) for index in alike.topk(count).indices]


@pytest.fixture(scope="module")
def movies(real_data: Path) -> tuple[Catalogue, Items]:
    catalogue = load(DataConfig(source=str(real_data / "ml-1m"))).catalogue
    return catalogue, pretrain(catalogue, ItemsConfig())


@pytest.mark.parametrize(
    ("title", "sequels"),
    [
        ("Toy Story", ["Toy Story 2"]),
        ("Halloween II", ["Halloween: H20", "Halloween 4", "Halloween 5"]),
        (
            "Star Wars: Episode IV - A New Hope",
            ["Star Wars: Episode V -", "Star Wars: Episode VI -"],
        ),
    ],
)
def test_series_are_neighbours(
    movies: tuple[Catalogue, Items], title: str, sequels: list[str]
) -> None:
    catalogue, items = movies
    item = list(catalogue.titles).index(title)
    near = [catalogue.titles[row] for row in neighbours(items.base, item, 6)]
    for sequel in sequels:
        assert any(name.startswith(sequel) for name in near), near


def test_base_and_codes_carry_information(movies: tuple[Catalogue, Items]) -> None:
    _, items = movies
    assert items.report["unexplained"] < 0.8  # 32 principal components leave .91
    assert items.report["effective_rank"] > 25
    report = semantic_ids(items, ItemsConfig(), 4, 256).report
    assert report["unexplained"] < 0.9
    assert report["collision_rate"] < 0.05
    assert min(report["perplexity"]) > 100
    assert max(report["dead_codes"]) < 20
