"""Run folders are read whole, or refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedpeft.errors import ArtifactError
from fedpeft.report import read_run
from fedpeft.report.runs import labels

from .folders import evaluation, result, traffic_round, write_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(
        tmp_path / "run",
        result=result(),
        metrics=[evaluation(10, 0.3, 1e6), evaluation(20, 0.4, 2e6)],
        traffic=[traffic_round(1, 5.0), traffic_round(2, 5.0, event="refresh")],
    )


def change(folder: Path, *path: str, value: object = None, drop: bool = False) -> None:
    """Set or drop one key of ``result.json``."""
    file = folder / "result.json"
    values = json.loads(file.read_text())
    table = values
    for key in path[:-1]:
        table = table[key]
    if drop:
        del table[path[-1]]
    else:
        table[path[-1]] = value
    file.write_text(json.dumps(values))


def test_reads_what_was_written(folder: Path) -> None:
    run = read_run(folder)
    assert run.result.dataset.items == 3706
    assert run.result.metrics.test.full["ndcg@10"] == 0.042
    assert [line.round for line in run.evaluations] == [10, 20]
    assert run.traffic[1].event == "refresh"
    assert run.is_full


def test_ignores_keys_of_later_versions_and_takes_a_run_without_commit(folder: Path) -> None:
    change(folder, "invented_later", value=1)
    change(folder, "commit", value=None)
    assert read_run(folder).result.commit is None


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl", "traffic.jsonl"])
def test_names_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} does not exist"):
        read_run(folder)


def test_names_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere is not a run folder"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["{", "[]", "3", ""])
def test_refuses_a_corrupt_result(folder: Path, text: str) -> None:
    (folder / "result.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"result\.json"):
        read_run(folder)


def test_refuses_a_result_that_is_not_text(folder: Path) -> None:
    (folder / "result.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactError, match=r"result\.json is not valid JSON"):
        read_run(folder)


@pytest.mark.parametrize(
    "path", [("seed",), ("bytes", "total_per_client_mean"), ("metrics", "validation"), ("commit",)]
)
def test_names_a_missing_key(folder: Path, path: tuple[str, ...]) -> None:
    change(folder, *path, drop=True)
    with pytest.raises(ArtifactError, match=rf"result\.json has no key '{'.'.join(path)}'"):
        read_run(folder)


def test_a_baseline_has_both_parts(folder: Path) -> None:
    change(folder, "baselines", "popularity", "test", drop=True)
    with pytest.raises(ArtifactError, match=r"no key 'baselines\.popularity\.test'"):
        read_run(folder)


def test_names_a_missing_metric(folder: Path) -> None:
    change(folder, "metrics", "test", "sampled", value={"hr@10": 0.5})
    with pytest.raises(ArtifactError, match=r"'metrics\.test\.sampled' has no 'ndcg@10', only hr"):
        read_run(folder)


def test_names_a_value_out_of_range(folder: Path) -> None:
    change(folder, "bytes", "initial_download_per_client", value=-1)
    with pytest.raises(ArtifactError, match=r"'bytes\.initial_download_per_client' = -1"):
        read_run(folder)


def test_a_last_line_that_was_cut_off_is_none(folder: Path) -> None:
    file = folder / "metrics.jsonl"
    file.write_text(file.read_text()[:-20])
    assert [line.round for line in read_run(folder).evaluations] == [10]


def test_names_a_line_that_was_spoilt(folder: Path) -> None:
    file = folder / "metrics.jsonl"
    file.write_text(file.read_text()[:-20] + "\n")
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl, line 2 is not valid JSON"):
        read_run(folder)


def test_refuses_nan_in_a_line(folder: Path) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(evaluation(30, float("nan"), 3e6)) + "\n")
    with pytest.raises(ArtifactError, match=r"metrics\.jsonl, line 3"):
        read_run(folder)


def test_refuses_rounds_that_go_back(folder: Path) -> None:
    with (folder / "traffic.jsonl").open("a") as file:
        file.write(json.dumps(traffic_round(1, 5.0)) + "\n")
    with pytest.raises(ArtifactError, match=r"traffic\.jsonl, line 3 goes back from round 2 to 1"):
        read_run(folder)


def test_labels_tell_seeds_and_folders_apart(tmp_path: Path) -> None:
    def run(folder: str, name: str, seed: int) -> Path:
        values = result(name=name, seed=seed)
        return write_run(tmp_path / folder, result=values, metrics=[], traffic=[])

    paths = [run("a", "LoRA", 0), run("b", "LoRA", 1), run("c", "Full", 0), run("d", "Full", 0)]
    runs = [read_run(path) for path in paths]
    assert labels(runs[1:3]) == ["LoRA", "Full"]
    assert labels(runs[:3]) == ["LoRA, seed 0", "LoRA, seed 1", "Full"]
    assert labels(runs[2:]) == [f"Full, seed 0, {paths[2]}", f"Full, seed 0, {paths[3]}"]
    with pytest.raises(ArtifactError, match="given twice"):
        labels([runs[0], runs[0]])
