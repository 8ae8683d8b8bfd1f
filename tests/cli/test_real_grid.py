"""Every backbone x adapter x mode x loss trains on real data from the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from functools import cache as remembered
from pathlib import Path
from typing import Any

import pytest

from .tools import fedpeft

pytestmark = pytest.mark.realdata

LOSSES = {
    "fedmf": ("bpr", "bce", "softmax", "ials"),
    "fedncf": ("bpr", "bce", "softmax"),
    "pfedrec": ("bpr", "bce", "softmax"),
    "fedpergnn": ("bpr", "bce", "softmax", "ials"),
}
ADAPTERS = {
    "lora": ("lora", ()),
    "hash": ("hash", ("adapter.pooling=mean",)),
    "senet": ("hash", ("adapter.pooling=senet",)),
    "rq": ("rq", ()),
}
CHEAP = (
    "items.base=svd",
    "evaluation.centralised_baseline=false",
    "evaluation.max_eval_users=50",
    "evaluation.every=1000",
)
PHASES = ("training.warmup_rounds=1", "training.refresh_every=1")

Train = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def train(
    cache: Path, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Train]:
    """Return a function that runs three rounds and returns the result; the same run only once."""
    folder = tmp_path_factory.mktemp("grid")

    @remembered
    def train(backbone: str, name: str, mode: str, loss: str, preset: str) -> dict[str, Any]:
        adapter, settings = ADAPTERS.get(name, (name, ()))
        phases = PHASES if mode == "peft" and adapter != "full" else ()
        graph = ("backbone.expansion.every=1",) if backbone == "fedpergnn" else ()
        words = [word for s in (*CHEAP, *settings, *phases, *graph) for word in ("--set", s)]
        out = folder / f"{backbone}-{name}-{mode}-{loss}-{preset}"
        parts = ("--backbone", backbone, "--adapter", adapter, "--mode", mode, "--loss", loss)
        data = ("--data", real_data / "ml-100k", "--preset", preset, "--rounds", "3")
        done = fedpeft("run", *data, *parts, *words, "--out", out, "--json")
        assert done.code == 0, done.err
        traffic = [json.loads(line) for line in (out / "traffic.jsonl").read_text().splitlines()]
        phase = [entry["phase"] for entry in traffic]
        assert phase == (["warmup", "adapt", "adapt"] if phases else ["adapt"] * 3)
        assert all(entry["upload"] > 0 and entry["download"] > 0 for entry in traffic)
        found: dict[str, Any] = json.loads(done.out)
        return found

    with pytest.MonkeyPatch.context() as patch:  # charts take longer than the run; tested elsewhere
        patch.setattr("fedpeft.report.html.write_report", lambda runs, path: None)
        yield train


def check(result: dict[str, Any], full: dict[str, Any]) -> None:
    """Compare a run with the full table's."""
    for part in ("validation", "test"):
        metrics = result["metrics"][part]
        assert all(math.isfinite(v) for kind in ("sampled", "full") for v in metrics[kind].values())
    assert result["split_fingerprint"] == full["split_fingerprint"]
    for direction in ("upload", "download"):
        spent, limit = (run["bytes"][f"{direction}_per_client_round"] for run in (result, full))
        assert 0 < spent <= limit
        assert (spent == limit) == (result["config"]["adapter"]["kind"] == "full")


@pytest.mark.parametrize(
    ("backbone", "loss"), [(backbone, loss) for backbone in LOSSES for loss in LOSSES[backbone]]
)
@pytest.mark.parametrize("mode", ["peft", "compress"])
@pytest.mark.parametrize("adapter", ["full", *ADAPTERS])
def test_three_rounds(train: Train, backbone: str, adapter: str, mode: str, loss: str) -> None:
    result = train(backbone, adapter, mode, loss, "fedpeft")
    exact = adapter == "full" or (loss == "ials" and adapter == "senet")  # uploads as float32
    assert result["backend"] == ("fused" if exact else "vmap")
    check(result, train(backbone, "full", "peft", loss, "fedpeft"))


@pytest.mark.parametrize("backbone", LOSSES)
@pytest.mark.parametrize(("adapter", "mode"), [("full", "peft"), ("lora", "peft")])
def test_three_rounds_as_in_the_paper(train: Train, backbone: str, adapter: str, mode: str) -> None:
    result = train(backbone, adapter, mode, "bpr", "paper")
    assert result["backend"] == "vmap"
    check(result, train(backbone, "full", "peft", "bpr", "fedpeft"))
