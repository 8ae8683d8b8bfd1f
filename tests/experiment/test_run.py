"""Runs started from Python: what is told, what is refused before anything is read."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from fedpeft import adapters
from fedpeft.data import Catalogue, load, split
from fedpeft.errors import ConfigError, Interrupted
from fedpeft.evaluation import Report, evaluate
from fedpeft.experiment import (
    Recommender,
    RunConfig,
    RunFolder,
    Schedule,
    build,
    configure,
    evaluate_run,
    prepare,
    reopen,
    resume,
    start,
)
from fedpeft.experiment.baselines import cached_baselines
from fedpeft.files import read_tensors
from fedpeft.items import ItemModel, semantic_ids
from fedpeft.items.coded import coded_bytes
from fedpeft.protocol.messages import (
    Snapshot,
)
from fedpeft.report import read_run
from fedpeft.report.html import write_report
from fedpeft.simulation import RoundResult, RunOptions, Simulation

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("text", ["{", "{}", "[]", "null", '{"popularity": 1}'])
def test_a_damaged_baseline_in_the_cache_is_made_anew(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDPEFT_CACHE", str(tmp_path))
    config = configure(settings=["data.synthetic.users=20", "data.synthetic.items=150"])
    parts = split(load(config.data), config.evaluation)

    def baselines() -> dict[str, Any]:
        return cached_baselines(parts, centralised=False, recency=config.training.recency)

    made = baselines()
    (path,) = (tmp_path / "baselines").iterdir()
    path.write_text(text)
    assert baselines() == made
    assert json.loads(path.read_text()) == made


class Recorder:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def stage(self, text: str) -> None:
        self.told.append(text)

    def started(self, simulation: Simulation) -> None:
        self.told.append(("started", simulation.round, simulation.backend))

    def round(self, result: RoundResult) -> None:
        self.told.append(result.entry.round)

    def evaluated(self, round_number: int, report: Report) -> None:
        self.told.append(("evaluated", round_number, report.part))

    def note(self, text: str) -> None:
        self.told.append(text)


def small(**changes: str) -> RunConfig:
    settings = {
        "data.synthetic.users": "30",
        "data.synthetic.items": "40",
        "data.synthetic.interactions_per_user": "8",
        "data.synthetic.topics": "8",
        "items.base": "svd",
        "items.dim": "4",
        "evaluation.negatives": "10",
        "evaluation.every": "2",
        "evaluation.centralised_baseline": "false",
        "training.rounds": "5",
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return configure(settings=[f"{key}={value}" for key, value in settings.items()])


def test_watcher_is_told_everything(tmp_path: Path) -> None:
    watcher = Recorder()
    result = start(small(), tmp_path / "new", RunOptions(), watcher, Schedule())
    assert watcher.told == [
        "reading synthetic",
        "pretraining 40 items",
        "synthetic: 247 interactions, of 30 users with 40 items",
        ("started", 0, "vmap"),
        0,
        1,
        ("evaluated", 2, "validation"),
        2,
        3,
        ("evaluated", 4, "validation"),
        4,
        ("evaluated", 5, "validation"),
        "evaluating on test, once",
    ]
    assert json.loads((tmp_path / "new" / "result.json").read_text()) == result


@pytest.mark.parametrize("backbone", ["fedmf", "pfedrec"])
def test_the_catalogue_is_ranked_while_training_only_where_it_is_cheap(
    backbone: str, tmp_path: Path
) -> None:
    config = small(backbone__kind=backbone)
    result = start(config, tmp_path / "new", RunOptions(), Recorder(), Schedule())
    *_, last = map(json.loads, (tmp_path / "new" / "metrics.jsonl").read_text().splitlines())
    final = result["metrics"]["validation"]
    assert final["full"]
    assert last["validation"]["sampled"] == final["sampled"]
    assert last["validation"]["full"] == ({} if backbone == "pfedrec" else final["full"])


@pytest.mark.parametrize("source", ["table", "text"])
def test_the_codes_in_use_are_described(source: str, tmp_path: Path) -> None:
    """They are those of the end, also where a refresh has made new ones or a stop came between."""
    changes = {
        "adapter__kind": "rq",
        "adapter__source": source,
        "adapter__levels": "2",
        "adapter__codes": "8",
        "training__warmup_rounds": "1",
    }
    if source == "table":
        changes["training__refresh_every"] = "2"
    else:
        changes["items__rqvae__epochs"] = "1"
    result = start(small(**changes), tmp_path / "new", RunOptions(), Recorder(), Schedule())
    item = reopen(tmp_path / "new")[1].replica.backbone.item
    codes = (item.get_buffer("codes") - torch.tensor([0, 8])).tolist()
    told = result["items"]["codes"]
    assert told["dead_codes"] == [8 - len(set(level)) for level in zip(*codes, strict=True)]
    alone = [row for row in codes if codes.count(row) == 1]
    assert told["collision_rate"] == pytest.approx(1 - len(alone) / len(codes))
    assert all(1 <= level <= 8 for level in told["perplexity"])
    page = tmp_path / "report.html"
    write_report([read_run(tmp_path / "new")], page)
    text = page.read_text(encoding="utf-8")
    assert f"<td>{told['collision_rate']:.4g}</td>" in text
    assert "<code>collision_rate</code>" in text


def test_other_adapters_have_no_codes_to_describe(tmp_path: Path) -> None:
    result = start(small(), tmp_path / "new", RunOptions(), Recorder(), Schedule())
    assert "codes" not in result["items"]


@pytest.mark.parametrize("adapter", ["lora", "hash", "rq"])
def test_a_coded_base_is_counted_as_codes(adapter: str, tmp_path: Path) -> None:
    settings = {
        "adapter__kind": adapter,
        "items__base_codes__levels": "2",
        "items__base_codes__codes": "4",
        "training__warmup_rounds": "0",
        "training__refresh_every": "2",
    }
    result = start(small(**settings), tmp_path / "new", RunOptions(), Recorder(), Schedule())
    own = next(e for e in result["cost"]["strategies"] if e["label"] == result["cost"]["strategy"])
    told = own["communication"][0]
    assert told["base"] == coded_bytes(40, 4, levels=2, codes=4)
    first = Snapshot.size(told["base"] + told["subspace"])
    assert result["bytes"]["initial_download_per_client"] == first
    assert result["bytes"]["total_per_client_mean"] == told["total"]


@pytest.mark.parametrize(
    ("device", "folder"), [("tpu", "new"), ("cpu", "full")], ids=["device", "folder"]
)
def test_refused_before_anything_is_read(device: str, folder: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    watcher = Recorder()
    with pytest.raises(ConfigError):
        start(small(), tmp_path / folder, RunOptions(device=device), watcher, Schedule())
    assert watcher.told == []
    assert not (tmp_path / "new").exists()


def test_reopened_run_is_the_simulation(tmp_path: Path) -> None:
    config = small(seed="4", training__warmup_rounds="2", training__refresh_every="2")
    start(config, tmp_path / "new", RunOptions(), Recorder(), Schedule())
    prepared, reopened = reopen(tmp_path / "new")
    simulation = build(config, prepared.split, prepared.items)
    for _ in range(5):
        simulation.step()
    assert torch.equal(reopened.item_vectors(), simulation.item_vectors())
    for part in ("validation", "test"):
        scorer = simulation.scorer(prepared.split.before(part))
        assert evaluate_run(prepared, reopened, part) == evaluate(scorer, prepared.split, part)


def test_a_device_scores_from_the_artifact_alone(tmp_path: Path) -> None:
    """The adapter folder and a user's own history give the scores that `recommend` shows."""
    config = small(training__recency__half_life="5.0")
    start(config, tmp_path / "new", RunOptions(), Recorder(), Schedule())
    prepared, _ = reopen(tmp_path / "new")
    folder = tmp_path / "new" / "adapter"
    table = adapters.load(folder, read_tensors(folder / "base.safetensors")["base"]).merge()
    user = 3
    history = prepared.dataset.histories.of(user)
    recency = config.training.recency
    assert recency.half_life == 5.0
    later = torch.arange(len(history) - 1, -1, -1).double()
    weight = recency.floor + (1 - recency.floor) * 2 ** (-later / recency.half_life)
    vectors, all_vectors = table[torch.from_numpy(history)].double(), table.double()
    split = prepared.split
    unobserved_weight = 4.0 * len(split.train.items) / (split.n_users * split.n_items)
    system = (
        unobserved_weight * all_vectors.T @ all_vectors
        + (weight[:, None] * vectors).T @ vectors
        + config.training.local_decay * torch.eye(4).double()
    )
    scores = all_vectors @ torch.linalg.solve(system, (weight[:, None] * vectors).sum(0))
    recommender = Recommender(tmp_path / "new")
    found = recommender.for_user(prepared.dataset.user_ids[user], 5)
    ids = prepared.dataset.catalogue.ids
    assert found
    for item in found:
        assert item.score == pytest.approx(float(scores[ids.index(item.item)]), abs=1e-5)


def stopped(config: RunConfig, out: Path, rounds: int) -> None:
    """Run until a signal would have come after so many rounds; a checkpoint is left behind."""

    class Stopping(Recorder):
        def round(self, result: RoundResult) -> None:
            if result.entry.round + 1 == rounds:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        start(config, out, RunOptions(), Stopping(), Schedule())


def test_new_items_get_rows_from_the_run_folder_alone(tmp_path: Path) -> None:
    config = small(items__base="autoencoder")
    start(config, tmp_path / "new", RunOptions(), Recorder(), Schedule())
    prepared = prepare(config)
    model = ItemModel.load(RunFolder.open(tmp_path / "new").items)
    catalogue = prepared.dataset.catalogue
    assert torch.equal(model.base_rows(catalogue), prepared.items.base)
    new = Catalogue(ids=["new"], titles=["new"], texts=[catalogue.texts[3]])
    torch.testing.assert_close(model.base_rows(new), prepared.items.base[3:4])


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("stop", [1, 4])
def test_semantic_ids_are_kept_once_they_are_trained(
    warmup: int, stop: int, tmp_path: Path
) -> None:
    settings = {"adapter__kind": "rq", "adapter__source": "text", "adapter__codes": "4"}
    config = small(training__warmup_rounds=str(warmup), **settings)
    stopped(config, tmp_path / "new", stop)
    items = tmp_path / "new" / "items"
    assert (ItemModel.load(items).coder is not None) == (stop > warmup)
    resume(tmp_path / "new", RunOptions(), Recorder(), Schedule())
    model = ItemModel.load(items)
    prepared = prepare(config)
    made = semantic_ids(prepared.items, config.items, 4, 4)
    assert torch.equal(model.semantic_ids(prepared.dataset.catalogue), made.codes)


def test_without_texts_there_is_nothing_to_keep(tmp_path: Path) -> None:
    config = small(items__base="none", adapter__kind="lora", adapter__mode="compress")
    start(config, tmp_path / "new", RunOptions(), Recorder(), Schedule())
    assert not (tmp_path / "new" / "items").exists()


def test_prepare_tells_its_stages() -> None:
    stages: list[str] = []
    prepared = prepare(small(), stage=stages.append)
    assert stages == ["reading synthetic", "pretraining 40 items"]
    assert prepared.items.base.shape == (prepared.dataset.n_items, 4)
