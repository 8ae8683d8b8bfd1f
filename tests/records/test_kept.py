"""What this version writes is kept: `version2` is the folder of one of its runs, as it left it.

Later versions must read each file, or refuse it by name.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from fedpeft.adapters import load
from fedpeft.data import Catalogue
from fedpeft.experiment import RunFolder, evaluate_run, reopen
from fedpeft.files import read_tensors
from fedpeft.items.model import ItemModel
from fedpeft.protocol.messages import Snapshot, Step
from fedpeft.records import Checkpoint
from fedpeft.report import comparison, read_run

FOLDER = Path(__file__).parent / "version2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(FOLDER, tmp_path / "run")


def test_its_reports() -> None:
    run = read_run(FOLDER)
    assert [line.event for line in run.traffic] == [
        None, None, "warmup_end", None, "refresh", None
    ]  # fmt: skip
    assert run.traffic[-1].bytes_per_client == run.result.bytes.total_per_client_mean
    assert run.result.rejected_uploads == 0
    assert len(comparison([run]).rows) == 1


def test_its_settings() -> None:
    config = RunFolder.open(FOLDER).config()
    assert (config.adapter.kind, config.preset) == ("rq", "fedpeft")
    assert RunFolder.open(FOLDER).asked().training.rounds == 6


def test_its_checkpoint_with_the_messages_in_it() -> None:
    saved = Checkpoint.read(FOLDER / Checkpoint.FILE)
    assert saved.values["server"]["round"] == 6
    first, step = (saved.tensors[f"server/message/{place}"].numpy().tobytes() for place in range(2))
    assert Snapshot.from_bytes(first).version == 1
    assert Step.from_bytes(step).version == 2


def test_its_run_reopened(folder: Path) -> None:
    prepared, simulation = reopen(folder, "cpu")
    found = evaluate_run(prepared, simulation, "validation").sampled["ndcg@10"]
    kept = read_run(FOLDER).result.metrics.validation.sampled["ndcg@10"]
    assert found == pytest.approx(kept, abs=0.02)  # another processor may rank a tie otherwise


def test_its_adapter() -> None:
    base = read_tensors(FOLDER / "adapter" / "base.safetensors")["base"]
    adapter = load(FOLDER / "adapter", base)
    assert adapter.kind == "rq"
    assert adapter.merge().isfinite().all()


def test_its_item_model_makes_a_row_for_a_new_item() -> None:
    model = ItemModel.load(FOLDER / "items")
    rows = model.base_rows(Catalogue(["new"], ["New"], ["a film about the sea"]))
    assert rows.shape == (1, 4)
    assert torch.isfinite(rows).all()
