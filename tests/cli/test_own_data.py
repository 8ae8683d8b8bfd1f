"""Data as people have them, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from .tools import fedpeft

SMALL = ("--rounds", "3", "--set", "items.dim=4", "--set", "evaluation.negatives=3")


@pytest.fixture(autouse=True)
def _here(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = ["userId,movieId,rating,timestamp,event"]
    for user in range(20):
        for place, item in enumerate([*rng.permutation(15)[:6], 3]):
            rows.append(f"{user},{item},4,{place // 2},{('view', 'buy')[place % 2]}")
    Path("ratings.csv").write_text("\n".join(rows) + "\n")


def test_ratings_alone_in_one_command() -> None:
    done = fedpeft("run", "--data", "ratings.csv", *SMALL, "--out", "one")
    assert done.code == 0, done.err
    assert "ratings: " in done.err
    assert " of 140 interactions, of 20 users with 15 items; dropped were " in done.err
    assert "play no part: rating, event\n" in done.err
    assert "all kinds of event count alike (view, buy)" in done.err
    assert "there is no file of items: the catalogue is made of the ids" in done.err
    assert "% of the users a tie of times decided the test item" in done.err
    page = Path("one/report.html").read_text()
    assert "a tie of times decided the test item" in page
    notes = json.loads(Path("one/result.json").read_text())["dataset"]["notes"]
    assert len(notes) == 4
    assert fedpeft("recommend", "one", "--user", "3", "--top", "2").code == 0


def test_describe_takes_the_file_of_a_run() -> None:
    Path("shop.toml").write_text(
        'adapter.rank = 2\n[data]\nsource = "ratings.csv"\n[data.events]\nbuy = 1.0\nview = 0.5\n'
    )
    done = fedpeft("data", "describe", "--config", "shop.toml", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["name"], found["users"], found["order"]) == ("ratings", 20, "time")
    assert set(found["ties"]) == {"test", "validation"}
    other = fedpeft("data", "describe", "synthetic", "--json")
    assert json.loads(other.out)["name"] == "synthetic"
    table = fedpeft("data", "describe", "--config", "shop.toml")
    assert "play no part: rating" in table.out


def test_a_source_that_is_not_there() -> None:
    done = fedpeft("run", "--data", "rating.csv", "--out", "one")
    assert done.code == 2
    assert "nor a folder or a file that exists" in done.err
    assert not Path("one").exists()
