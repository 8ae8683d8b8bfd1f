"""What the version before wrote: `version1` is the folder of one of its runs, as it left it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from fedpeft.errors import ArtifactError
from fedpeft.experiment import RunFolder
from fedpeft.records import Checkpoint, Evaluation, Result, TrafficRound, read_log
from fedpeft.report import comparison, read_run
from fedpeft.report.sweeps import read_records, read_sweep

FOLDER = Path(__file__).parent / "version1"


def test_its_run_is_read_for_reports() -> None:
    run = read_run(FOLDER)
    assert run.result.baselines.keys() == {"popularity", "centralised_mf"}
    sent = run.result.bytes
    assert (sent.initial_download_per_client, sent.resync_per_client) == (128, 0)
    assert sent.expansion_per_client == 1022.8
    rounds = run.traffic
    assert [line.round for line in rounds] == list(range(6))
    assert [line.event for line in rounds] == [None, None, "warmup_end", None, "refresh", None]
    assert [line.initial_download for line in rounds] == [0, 0, 256, 256, 408, 408]
    total = sum(r.upload + r.download + r.initial_download + r.resync + r.expansion for r in rounds)
    assert total / 20 == pytest.approx(sent.total_per_client_mean)
    assert [line.round for line in run.evaluations] == [3, 6]
    assert len(run.gains["test.full.ndcg@10"]) == len(run.gains["test.sampled.hr@10"]) == 20
    assert len(comparison([run]).rows) == 1
    assert run.result.cost is not None
    whole = run.result.cost.strategies[0].communication[0]
    assert (whole.initial_download, whole.resync) == (0, 0)


def test_its_settings_are_read() -> None:
    assert RunFolder.open(FOLDER).config().adapter.kind == "lora"


def test_its_checkpoint_is_refused_by_name() -> None:
    path = FOLDER / Checkpoint.FILE
    with pytest.raises(ArtifactError) as caught:
        Checkpoint.read(path)
    assert str(caught.value) == (
        f"{path} has checkpoint schema 2; this version reads 3, so an earlier version made it; "
        "run its config.toml anew"
    )


def test_reading_rewrites_nothing(tmp_path: Path) -> None:
    copy = shutil.copytree(FOLDER, tmp_path / "run")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    read_run(copy)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_what_is_written_now_is_read_as_it_was(tmp_path: Path) -> None:
    result = Result.read(FOLDER)
    result.write(tmp_path)
    assert Result.read(tmp_path) == result
    assert json.loads((tmp_path / "result.json").read_text())["schema"] == 2


@pytest.mark.parametrize("schema", [0, 3, "2", None, True, 1.0])
def test_other_schemas_are_refused(schema: object, tmp_path: Path) -> None:
    for name in ("result.json", "metrics.jsonl", "ledger.jsonl"):
        first, *rest = (FOLDER / name).read_text().split("\n{", 1)
        value = json.loads((FOLDER / name).read_text() if name == "result.json" else first)
        text = json.dumps({**value, "schema": schema}) + "\n"
        (tmp_path / name).write_text(text)
        assert name == "result.json" or rest
    said = r"has schema .*; this version of fedpeft reads schemas 1 to 2"
    with pytest.raises(ArtifactError, match=rf"result\.json {said}"):
        Result.read(tmp_path)
    with pytest.raises(ArtifactError, match=rf"metrics\.jsonl, line 1 {said}"):
        read_log(Evaluation, tmp_path)
    with pytest.raises(ArtifactError, match=rf"ledger\.jsonl, line 1 {said}"):
        read_log(TrafficRound, tmp_path)


def test_columns_of_its_sweeps_have_the_names_of_today(tmp_path: Path) -> None:
    """In records that are committed, and in the results table of a sweep folder."""
    facts = {"name": "g", "axes": [["a", ["x"]]], "seeds": [0], "compare": None}
    row = {
        "a": "x",
        "seed": 0,
        "status": "done",
        "config": "c",
        "version": "v",
        "split": "s",
        "test.sampled.ndcg@10": 0.4,
        "floor.popularity.test.sampled.ndcg@10": 0.2,
        "bytes.one_off_per_client": 128.0,
        "bytes.catch_up_per_client": 7.0,
        "bytes.total_per_client_mean": 300.0,
    }
    names = {
        "baseline.popularity.test.sampled.ndcg@10": 0.2,
        "bytes.initial_download_per_client": 128.0,
        "bytes.resync_per_client": 7.0,
        "bytes.total_per_client_mean": 300.0,
    }
    records = tmp_path / "records.jsonl"
    records.write_text(json.dumps(facts) + "\n" + json.dumps({**row, "curve": []}) + "\n")
    run = shutil.copytree(FOLDER, tmp_path / "runs" / "one")
    folder = run.relative_to(tmp_path).as_posix()
    (tmp_path / "sweep.json").write_text(json.dumps(facts))
    pl.DataFrame([{**row, "folder": folder}]).write_parquet(tmp_path / "results.parquet")
    for sweep in (read_records(records), read_sweep(tmp_path)):
        (found,) = sweep.rows
        assert names.items() <= found.items()
        assert not any(name.startswith("floor.") or "one_off" in name for name in found)
