"""Benchmarks, the demo's picture and the experiments run to their end, at toy size.

What they measure then means nothing; that they still fit the library does.  The scripts that write
pages run in `test_docs.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import fedpeft
from fedpeft.cli.demo import demo
from fedpeft.data.config import SyntheticConfig
from fedpeft.data.synthetic import generate
from report.sweeps import write_sweep

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS, EXPERIMENTS = ROOT / "benchmarks", ROOT / "experiments"
FOLDERS = ("benchmarks", "docs", "experiments")
Script = Callable[..., None]


def figures(path: Path) -> dict[str, Any]:
    """Return what a script wrote."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return the folder of a small data set."""
    made = generate(SyntheticConfig(users=40, items=150, interactions_per_user=10))
    ids, histories = made.catalogue.ids, made.histories
    items = {"item_id": ids, "title": made.catalogue.texts}
    rows = [
        {"user_id": user, "item_id": ids[item], "timestamp": time}
        for user in range(histories.n_users)
        for time, item in enumerate(histories.of(user))
    ]
    folder = tmp_path / "shop"
    folder.mkdir()
    pl.DataFrame(items).write_csv(folder / "items.csv")
    pl.DataFrame(rows).write_csv(folder / "interactions.csv")
    return folder


def test_run(run_script: Script, tmp_path: Path) -> None:
    words = ("--toy", "--threads", "1", "--repetitions", "1", "--save", "--out", tmp_path)
    run_script(BENCHMARKS / "run.py", *words)
    found = figures(tmp_path / "speed.json")
    assert found["difference_to_handwritten"] < 1e-6
    assert set(found["peak_mb"]) == {"lora", "rq"}


def test_toy_figures_stay_out_of_the_results(
    run_script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    for script, *words in (("run.py", "--save"), ("backbones.py", "--save"), ("scale.py",)):
        with pytest.raises(SystemExit) as stop:
            run_script(BENCHMARKS / script, "--toy", *words)
        assert stop.value.code == 2
        assert "name another folder with --out" in capsys.readouterr().err


def test_backbones(run_script: Script, tmp_path: Path) -> None:
    words = ("--toy", "--repetitions", "1", "--save", "--out", tmp_path)
    run_script(BENCHMARKS / "backbones.py", *words)
    found = figures(tmp_path / "backbones.json")
    assert set(found["evaluation"]["the catalogue"]) == {"fedmf", "fedncf", "pfedrec", "fedpergnn"}


def test_profile_rounds(run_script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    run_script(BENCHMARKS / "profile_rounds.py", "--toy", "--repeats", "1")
    assert "vmap, paper, rq" in capsys.readouterr().out


def test_cost(run_script: Script, tmp_path: Path) -> None:
    run_script(BENCHMARKS / "cost.py", "--items", "200", "--out", tmp_path)
    assert [point["scale"]["items"] for point in figures(tmp_path / "cost.json")["points"]] == [200]
    assert {path.name for path in tmp_path.glob("*.??g")} == {"cost.png", "cost.svg"}


def test_scale(run_script: Script, tmp_path: Path) -> None:
    shutil.copy(BENCHMARKS / "results" / "scale.jsonl", tmp_path)  # so that there is what to draw
    lines = (tmp_path / "scale.jsonl").read_text("utf-8").splitlines()
    words = ("--toy", "--out", tmp_path, "--data", tmp_path / "data")
    run_script(BENCHMARKS / "scale.py", *words)
    added = (tmp_path / "scale.jsonl").read_text("utf-8").splitlines()[len(lines) :]
    assert [json.loads(line).get("backend") for line in added] == ["fused", "vmap", None]
    assert {path.name for path in tmp_path.glob("*.??g")} == {"scale.png", "scale.svg"}


def test_commits(run_script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        pytest.skip("no git history here, so there are no commits to compare")
    head = asked.stdout.strip()
    sizes = ("--users", "40", "--items", "150", "--pairs", "1", "--rounds", "1")
    quick = ("--set", "items.base=svd")
    cells = ("--backbones", "fedmf", "--adapters", "lora", "--backends", "fused")
    run_script(BENCHMARKS / "commits.py", "HEAD", "HEAD", *sizes, *cells, *quick, "--out", tmp_path)
    found = figures(tmp_path / f"commits-{head[:8]}-{head[:8]}.json")
    assert found["commits"] == {"old": head, "new": head}
    [cell] = found["cells"]
    assert all(cell[f"{what}_ratio"] > 0 for what in ("time", "cpu", "memory"))
    assert "fedmf      lora    fused" in capsys.readouterr().out
    trees = subprocess.run(
        ["git", "-C", ROOT, "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert "fedpeft-commits-" not in trees.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("no-such-commit", "HEAD"), "there is no "),  # commit, or git history
        (("HEAD", "HEAD", "--pairs", "0"), "--pairs 0 must be 1 or more"),
        (("HEAD", "HEAD", "--data", "nowhere"), "--data nowhere is no folder"),
        (("HEAD", "HEAD", "--data", ".", "--users", "9"), "--users and --items are for synthetic"),
    ],
)
def test_commits_refuses(
    words: tuple[str, ...], said: str, run_script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_script(BENCHMARKS / "commits.py", *words)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("field", "name"), [("backend", "fused"), ("plan", "shared")], ids=["now", "once"]
)
def test_a_commit_is_asked_by_its_own_names(
    field: str, name: str, monkeypatch: pytest.MonkeyPatch, run_script: Script
) -> None:
    run = make_dataclass("RunOptions", [("device", str), (field, str)])
    monkeypatch.setattr(fedpeft, "RunOptions", run, raising=False)
    monkeypatch.syspath_prepend(BENCHMARKS)
    from commits_worker import options

    assert options("fused") == run("cpu", name)


def test_picture_of_the_demo(
    run_script: Script, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ["data.synthetic.users=60", "data.synthetic.items=150", "items.base=svd"]
    sizes.append("data.synthetic.interactions_per_user=10")
    monkeypatch.setattr(sys.modules[demo.__module__], "SETTINGS", sizes)
    run_script(ROOT / "docs" / "generate_picture.py", "--rounds", "2", "--out", tmp_path)
    assert (tmp_path / "img" / "demo.png").stat().st_size > 10_000


def test_pooling(run_script: Script, tmp_path: Path, shop: Path, cache: Path) -> None:
    words = (shop, "--rounds", "1", "--seeds", "2", "--out", tmp_path / "pooling.json")
    run_script(EXPERIMENTS / "pooling.py", *words)
    found = figures(tmp_path / "pooling.json")
    assert len(found["cells"]) == 8
    assert found["command"] == "python experiments/pooling.py shop --rounds 1 --seeds 2"


def test_users(run_script: Script, tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep")
    for row in pl.read_parquet(folder / "results.parquet").to_dicts():
        gains = {"user": ["a", "b"], "test.sampled.ndcg@10": [0.1, 0.1 * (1 + row["seed"])]}
        pl.DataFrame(gains).write_parquet(folder / row["folder"] / "users.parquet")
    for _ in range(2):  # once more replaces them
        run_script(EXPERIMENTS / "users.py", folder, "--out", tmp_path / "users.json")
        found = json.loads((tmp_path / "users.json").read_text("utf-8"))
        assert [each["labels"]["strategy"] for each in found] == ["P-LoRA", "P-Hash"]


@pytest.mark.parametrize("script", ["pooling.py", "users.py"])
def test_experiments_refuse_what_is_not_there(
    script: str, run_script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run_script(EXPERIMENTS / script, tmp_path / "none", "--out", tmp_path / "out.json")
    assert stop.value.code == 2
    assert "none" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out.json").exists()


def test_every_script_is_run() -> None:
    """Here, in `test_docs.py`, or by a script that is run here."""
    here = {"run", "backbones", "profile_rounds", "cost", "scale", "commits", "generate_picture"}
    here |= {"pooling", "users"}
    pages = {"generate_configuration", "generate_costs", "generate_results"}
    processes = {"memory", "scale_point", "commits_worker"}
    files = [path for name in FOLDERS for path in (ROOT / name).glob("*.py")]
    scripts = {path.stem for path in files if "__main__" in path.read_text("utf-8")}
    assert scripts == here | pages | processes
