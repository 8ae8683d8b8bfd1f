"""Data without texts, and data that were given in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import fedpeft
from fedpeft.errors import DataError
from fedpeft.experiment import Recommender, Schedule, reopen, resume, start
from fedpeft.simulation import RunOptions

from .test_run import Recorder

SMALL: dict[str, Any] = {
    "rounds": 3,
    "settings": ["items.dim=4", "evaluation.negatives=3", "adapter.rank=2"],
}


@pytest.fixture(autouse=True)
def _here(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def log() -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    rows = [(u, i, t) for u in range(30) for t, i in enumerate(rng.permutation(20)[:6])]
    return {name: [row[at] for row in rows] for at, name in enumerate(("userId", "movieId", "ts"))}


def test_ratings_alone_start_without_texts(tmp_path: Path) -> None:
    pl.DataFrame(log()).write_csv("ratings.csv")
    run = fedpeft.configure(data="ratings.csv", **SMALL)
    assert run.items.base == "random"
    assert run.data.source == str((tmp_path / "ratings.csv").resolve())
    told = Recorder()
    result = start(run, "runs/one", RunOptions(), told, Schedule())
    assert any("no file of items" in str(line) for line in told.told)
    assert result["dataset"]["order"] == "time"
    again = fedpeft.configure("runs/one/config.toml")
    assert again.items.base == "random"
    assert len(Recommender("runs/one").for_user("3", 4)) == 4


def test_what_is_set_goes_before_what_is_chosen(tmp_path: Path) -> None:
    pl.DataFrame(log()).write_csv("ratings.csv")
    np.save("vectors.npy", np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32))
    options = ["items.encoder=array", "items.options.path=vectors.npy"]
    run = fedpeft.configure(data="ratings.csv", settings=options)
    assert (run.items.base, run.adapter.config.mode) == ("autoencoder", "peft")  # type: ignore[attr-defined]


def test_tables_in_memory_run_and_resume(tmp_path: Path) -> None:
    items = {"id": list(range(20)), "name": [f"word{i % 7} thing{i % 3}" for i in range(20)]}
    data = fedpeft.from_tables(pl.DataFrame(log()), pl.DataFrame(items))
    run = fedpeft.configure(data=data, **SMALL)
    assert (run.data.source, run.items.base) == ("memory", "autoencoder")
    result = start(run, tmp_path / "run", RunOptions(), Recorder(), Schedule())
    assert result["dataset"]["users"] == 30
    with pytest.raises(DataError, match=r"were given in Python"):
        reopen(tmp_path / "run")
    prepared, _ = reopen(tmp_path / "run", data=data)
    assert prepared.split.fingerprint == result["split_fingerprint"]
    (tmp_path / "run" / "result.json").unlink()
    resume(tmp_path / "run", RunOptions(), Recorder(), Schedule(), config=run)
    bare = fedpeft.from_tables(log())
    assert fedpeft.configure(data=bare).items.base == "random"
