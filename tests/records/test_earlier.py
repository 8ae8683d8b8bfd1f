"""What the version before wrote: `version1` is the folder of one of its runs, as it left it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fedpeft.errors import ArtifactError
from fedpeft.experiment import RunFolder
from fedpeft.records import Checkpoint, Evaluation, Result, TrafficRound, read_log
from fedpeft.report import comparison, read_run

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
    assert len(run.gains["test"]) == 20
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
