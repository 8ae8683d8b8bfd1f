"""What a run leaves behind, and what the other verbs make of it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from fedpeft import adapters
from fedpeft.cli.run import default_folder
from fedpeft.config import read_toml
from fedpeft.experiment import configure, prepare, reopen, resolve

from . import spoilt
from .conftest import ROUNDS
from .tools import SMALL, fedpeft, lasting, tree

FILES = {
    "adapter",
    "adapter/adapter.json",
    "adapter/adapter.safetensors",
    "adapter/base.safetensors",
    "asked.toml",
    "checkpoint",
    "checkpoint/state.safetensors",
    "config.toml",
    "items",
    "items/encoder.safetensors",
    "items/items.json",
    "items/reduction.safetensors",
    "traffic.jsonl",
    "metrics.jsonl",
    "catalogue.parquet",
    "histories.parquet",
    "report.html",
    "result.json",
    "users.parquet",
}
METRICS = {"hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr"}
BYTES = {
    "upload_per_client_round",
    "download_per_client_round",
    "initial_download_per_client",
    "warmup_per_client",
    "total_per_client_mean",
}


@pytest.fixture(scope="module")
def result(finished: Path) -> dict[str, Any]:
    return json.loads((finished / "result.json").read_text())


def test_files(finished: Path) -> None:
    assert set(tree(finished)) == FILES


def test_result(result: dict[str, Any]) -> None:
    for part in ("test", "validation"):
        for kind in ("sampled", "full"):
            found = result["metrics"][part][kind]
            assert found.keys() >= METRICS
            assert 0 < found["ndcg@10"] <= found["hr@10"] <= 1
            for baseline in ("popularity", "ials", "ease"):
                assert result["baselines"][baseline][part][kind].keys() >= METRICS
    assert result["bytes"].keys() >= BYTES
    assert all(result["bytes"][name] > 0 for name in BYTES)
    assert result["seed"] == 3
    assert result["rounds"] == ROUNDS
    assert result["backend"] == "vmap"
    assert result["commit"] is None or len(result["commit"].removesuffix("-dirty")) == 40
    assert len(bytes.fromhex(result["split_fingerprint"])) == 32
    assert result["seconds"] > 0


def test_users(finished: Path, result: dict[str, Any]) -> None:
    """Each user's rank and gain are there, and their means are the result's."""
    table = pl.read_parquet(finished / "users.parquet")
    assert table["user"].is_unique().all()
    assert set(table["user"]) <= {f"user-{i}" for i in range(result["dataset"]["users"] + 1)}
    for part in ("validation", "test"):
        assert len(table) == result["metrics"][part]["n_users"]
        for kind in ("sampled", "full"):
            rank, gain = table[f"{part}.{kind}.rank"], table[f"{part}.{kind}.ndcg@10"]
            metrics = result["metrics"][part][kind]
            assert gain.mean() == pytest.approx(metrics["ndcg@10"], abs=1e-12)
            assert (rank <= 10).mean() == pytest.approx(metrics["hr@10"], abs=1e-12)
            assert ((gain > 0) == (rank <= 10)).all()


def test_a_run_that_leaves_test_unread(tmp_path: Path) -> None:
    out = tmp_path / "run"
    told = fedpeft("run", *SMALL, "--rounds", "2", "--set", "evaluation.test=false", "--out", out)
    assert told.code == 0
    result = json.loads((out / "result.json").read_text())
    assert result["metrics"].keys() == {"validation"}
    assert not any(
        name.startswith("test") for name in pl.read_parquet(out / "users.parquet").columns
    )
    assert f"{result['metrics']['validation']['sampled']['ndcg@10']:.4f}" in told.out
    assert (out / "report.html").exists()


def test_logs(finished: Path, result: dict[str, Any]) -> None:
    traffic = [json.loads(line) for line in (finished / "traffic.jsonl").read_text().splitlines()]
    metrics = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in traffic] == list(range(ROUNDS))
    assert [line["round"] for line in metrics] == list(range(5, ROUNDS + 1, 5))
    assert traffic[-1]["bytes_per_client"] == result["bytes"]["total_per_client_mean"]
    sent = sum(
        line[way]
        for line in traffic
        for way in ("upload", "download", "initial_download", "resync")
    )
    assert sent / 60 == pytest.approx(result["bytes"]["total_per_client_mean"])
    last = metrics[-1]["validation"]
    assert last == {kind: result["metrics"]["validation"][kind] for kind in ("sampled", "full")}


def test_config_is_complete(finished: Path, result: dict[str, Any]) -> None:
    config = resolve(read_toml(finished / "config.toml"))
    assert json.loads(json.dumps(config.to_dict())) == result["config"]
    assert resolve(config.to_dict()) == config
    asked = resolve(read_toml(finished / "asked.toml"))
    assert json.loads(json.dumps(asked.to_dict())) == result["asked"]
    assert asked == configure(rounds=ROUNDS, seed=3, settings=SMALL[1::2])
    assert (asked.preset, config.preset, result["preset"]) == ("fedpeft",) * 3
    split = prepare(asked).split
    assert config == asked.resolved(split) != asked
    assert config.training.item_decay == 0.5 * split.statistics.density


def test_config_reproduces_the_run(finished: Path, here: Path) -> None:
    done = fedpeft("run", finished / "config.toml", "--out", "again")
    assert done.code == 0, done.err
    again, first = lasting(here / "again"), lasting(finished)
    assert again["result"].pop("asked") == first["result"]["config"]
    for found in (again, first):
        found["hashes"].pop("asked.toml")  # numbers were asked for now
    first["result"].pop("asked")
    assert again == first


@pytest.mark.parametrize("part", ["validation", "test"])
def test_evaluate(part: str, finished: Path, here: Path, result: dict[str, Any]) -> None:
    before = tree(finished)
    done = fedpeft("evaluate", finished, "--part", part, "--json")
    assert json.loads(done.out) == {**result["metrics"][part], "round": ROUNDS}
    shown = fedpeft("evaluate", finished, "--part", part).out
    assert f"{result['metrics'][part]['full']['ndcg@10']:.4f}" in shown
    assert tree(finished) == before


def test_recommend(finished: Path, here: Path) -> None:
    found = json.loads(fedpeft("recommend", finished, "--user", "user-7", "--json").out)
    prepared, simulation = reopen(finished)
    data = prepared.dataset
    user = data.user_ids.index("user-7")
    history = set(data.histories.of(user).tolist())
    scores = simulation.scorer(data.histories)(torch.tensor([user]))[0]
    expected = [item for item in scores.argsort(descending=True).tolist() if item not in history]
    assert [item["item"] for item in found] == [data.catalogue.ids[i] for i in expected[:10]]
    assert [item["title"] for item in found] == [data.catalogue.titles[i] for i in expected[:10]]
    assert [item["rank"] for item in found] == list(range(1, 11))
    assert sorted(found, key=lambda item: -item["score"]) == found
    shown = fedpeft("recommend", finished, "--user", "user-7", "--top", "2").out
    assert all(data.catalogue.titles[item] in shown for item in expected[:2])
    assert data.catalogue.titles[expected[2]] not in shown


def test_recommend_everything_else(finished: Path, here: Path) -> None:
    words = ("recommend", finished, "--user", "user-0", "--top", "100000", "--json")
    found = [item["item"] for item in json.loads(fedpeft(*words).out)]
    prepared, _ = reopen(finished)
    data = prepared.dataset
    history = {data.catalogue.ids[item] for item in data.histories.of(0)}
    assert sorted(found) == sorted(set(data.catalogue.ids) - history)


def test_titles_are_no_markup(here: Path) -> None:
    spoilt.table(here)
    path = here / "data" / "items.csv"
    path.write_text(path.read_text().replace("Film ", "[/bold] [red]Film "))
    words = ("--set", "evaluation.negatives=5", "--set", "items.base=svd", "--rounds", "2")
    assert fedpeft("run", "--data", "data", *words, "--out", "[/new]").code == 0
    done = fedpeft("recommend", "[/new]", "--user", "u0")
    assert done.code == 0
    assert "[/bold] [red]Film " in done.out
    assert "[/new], round 2" in fedpeft("evaluate", "[/new]").out


def test_adapter_artifact(finished: Path) -> None:
    folder = finished / "adapter"
    base = load_file(folder / "base.safetensors")["base"]
    adapter = adapters.load(folder, base)
    _, simulation = reopen(finished)
    assert adapter.kind == "lora"
    assert np.array_equal(adapter.merge().numpy(), simulation.item_vectors().numpy())


@pytest.mark.parametrize("kind", ["full", "hash", "rq"])
@pytest.mark.parametrize("mode", ["peft", "compress"])
def test_every_adapter(kind: str, mode: str, here: Path) -> None:
    words = ("--adapter", kind, "--mode", mode, "--rounds", "10", "--out", "new")
    small = [*SMALL, "--set", "evaluation.centralised_baseline=false"]
    done = fedpeft("run", *small, *words)
    assert done.code == 0, done.err
    folder = here / "new"
    based = mode == "peft" and kind != "full"  # the full table moves all of its base along
    assert set(tree(folder)) == FILES - (set() if based else {"adapter/base.safetensors"})
    _, simulation = reopen(folder)
    table = simulation.item_vectors()
    bases = [load_file(path)["base"] for path in (folder / "adapter").glob("base.*")]
    adapter = adapters.load(folder / "adapter", bases[0] if bases else table)
    assert np.array_equal(adapter.merge().numpy(), table.numpy())
    recommended = json.loads(fedpeft("recommend", "new", "--user", "user-1", "--json").out)
    assert len(recommended) == 10


def test_no_rounds(here: Path) -> None:
    done = fedpeft("run", *SMALL, "--rounds", "0", "--out", "new", "--json")
    assert json.loads(done.out)["rounds"] == 0
    assert set(tree(here / "new")) == FILES
    assert (here / "new" / "traffic.jsonl").read_text() == ""


def test_compare(run: Path, finished: Path, here: Path, result: dict[str, Any]) -> None:
    before = tree(finished)
    done = fedpeft("compare", run, finished, "--html", "both.html")
    assert done.code == 0
    rows = [line for line in done.out.splitlines() if line.startswith(" P-LoRA r=4, seed 3, ")]
    assert len(rows) == 2 + 1  # the second one has a verdict
    ndcg = f"{result['metrics']['test']['full']['ndcg@10']:.4f}"
    assert all(ndcg in row for row in rows[:2])
    assert "within noise +0.0000 [+0.0000, +0.0000]" in rows[2]  # one is a copy
    assert "<html" in (here / "both.html").read_text()
    assert tree(finished) == before
    told = json.loads(fedpeft("compare", run, finished, "--json").out)
    assert [row["total_bytes"] for row in told["runs"]] == [
        result["bytes"]["total_per_client_mean"]
    ] * 2
    ours, theirs = (row["differences"] for row in told["runs"])
    assert ours == {}
    gap = {"mean": 0.0, "low": 0.0, "high": 0.0, "over": "users"}
    gap["n"] = result["metrics"]["test"]["n_users"]
    assert theirs == dict.fromkeys(("full.ndcg@10", "sampled.ndcg@10", "sampled.hr@10"), gap)
    assert [row["verdict"] for row in told["runs"]] == [None, "within noise"]


def test_default_folder(here: Path) -> None:
    config = configure(adapter="hash", seed=5)
    first = default_folder(config)
    first.mkdir(parents=True)
    second = default_folder(config)
    assert first != second
    assert first.parent == second.parent == Path("runs")
    assert "-synthetic-hash-s5" in first.name


def test_new_folder_may_be_empty(here: Path) -> None:
    (here / "new").mkdir()
    assert fedpeft("run", *SMALL, "--rounds", "1", "--out", "new").code == 0


def test_reopen_from_elsewhere(
    here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data and vectors named by relative paths are found from another working directory."""
    spoilt.array(np.random.default_rng(0).normal(size=(12, 3)))(here)
    vectors = ("items.encoder=array", "items.options.path=vectors.npy", "items.base=svd")
    settings = [word for text in (*vectors, "evaluation.negatives=5") for word in ("--set", text)]
    done = fedpeft("run", "--data", "data", *settings, "--rounds", "2", "--out", "new")
    assert done.code == 0, done.err
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    done = fedpeft("recommend", here / "new", "--user", "u3")
    assert done.code == 0, done.err


def test_odd_names(here: Path) -> None:
    """Folders are written to config.toml and read back whatever their names are."""
    spoilt.table(here)
    source = (here / "data").rename(here / 'it\'s "data" \\ é [1]\x7f\n')
    words = ("--set", "evaluation.negatives=5", "--set", "items.base=svd", "--rounds", "1")
    done = fedpeft("run", "--data", source, *words, "--out", "new")
    assert done.code == 0, done.err
    assert tomllib.loads((here / "new" / "config.toml").read_text())["data"]["source"] == str(
        source
    )


def test_data_that_moved(here: Path) -> None:
    """Data may move: the path in config.toml is all that has to follow."""
    spoilt.table(here)
    words = ("--set", "evaluation.negatives=5", "--set", "items.base=svd", "--rounds", "1")
    assert fedpeft("run", "--data", "data", *words, "--out", "new").code == 0
    (here / "data").rename(here / "moved")
    done = fedpeft("evaluate", "new")
    assert done.code == 2
    assert f"{here}/data does not exist" in done.err
    spoilt.replaced("new/config.toml", b'/data"', b'/moved"')(here)
    assert fedpeft("evaluate", "new").code == 0


@pytest.mark.parametrize("upload", ["rows", "rank_one", "actions"])
def test_shorter_uploads_to_the_end(upload: str, here: Path) -> None:
    """What rows take depends on what clients touch; the result tells their mean."""
    words = ("--adapter", "full", "--loss", "bpr", "--rounds", "4", "--set", "items.dim=32")
    for form in (upload, "dense"):
        asked = ("--set", f"training.upload={form}", "--out", form)
        assert fedpeft("run", *SMALL, *words, *asked).code == 0
    sent = {
        form: json.loads((here / form / "result.json").read_text())["bytes"]
        for form in (upload, "dense")
    }
    key = "upload_per_client_round"
    assert 0 < sent[upload][key] < sent["dense"][key]
