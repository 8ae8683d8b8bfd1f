"""Short runs on the real data sets, as they lie there, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .tools import fedpeft

pytestmark = pytest.mark.realdata

CHANCE = 10 / 101
"""HR@10 of a random order of a held-out item and 100 negatives."""


def trained(source: Path, *words: str) -> dict[str, Any]:
    """Return the result of a run, whose folder can be opened again."""
    cheap = ("--set", "evaluation.centralised_baseline=false", "--json")
    done = fedpeft("run", "--data", source, "--out", "new", *cheap, *words)
    assert done.code == 0, done.err
    result: dict[str, Any] = json.loads(done.out)
    again = json.loads(fedpeft("evaluate", "new", "--part", "test", "--json").out)
    assert again["sampled"] == result["metrics"]["test"]["sampled"]
    assert again["full"] == result["metrics"]["test"]["full"]
    return result


def ndcg(parts: dict[str, Any], kind: str = "sampled") -> float:
    return float(parts["test"][kind]["ndcg@10"])


@pytest.mark.parametrize("adapter", ["full", "lora", "hash", "rq"])
def test_movielens_100k(adapter: str, real_data: Path, here: Path) -> None:
    words = ("--rounds", "60", "--adapter", adapter, "--set", "items.base=svd")
    result = trained(real_data / "ml-100k", *words)
    assert result["dataset"]["users"] == 943
    popularity = result["baselines"]["popularity"]
    assert ndcg(result["metrics"]) > ndcg(popularity) + 0.05
    assert ndcg(result["metrics"], "full") > ndcg(popularity, "full")
    titles = fedpeft("recommend", "new", "--user", "196", "--top", "5", "--json").out
    assert len({item["title"] for item in json.loads(titles)}) == 5


def test_movielens_100k_with_the_autoencoder(real_data: Path, here: Path) -> None:
    result = trained(real_data / "ml-100k", "--rounds", "60")
    assert result["items"]["base"] == "autoencoder"
    assert 0 < result["items"]["unexplained"] < 1
    assert ndcg(result["metrics"]) > ndcg(result["baselines"]["popularity"]) + 0.05


def test_movielens_100k_as_in_the_paper(real_data: Path, here: Path) -> None:
    words = ("--preset", "paper", "--rounds", "60", "--set", "items.base=svd")
    result = trained(real_data / "ml-100k", *words)
    assert result["backend"] == "vmap"
    assert result["metrics"]["test"]["sampled"]["hr@10"] > CHANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ml-1m", "amazon-industrial"])
def test_twenty_rounds(name: str, real_data: Path, here: Path) -> None:
    words = ("--rounds", "20", "--set", "items.base=svd")
    result = trained(real_data / name, *words)
    assert result["rounds"] == 20
    assert result["metrics"]["test"]["sampled"]["hr@10"] > 2 * CHANCE
    assert ndcg(result["metrics"], "full") > 0.005
