"""A checkpoint is finite, its owner's alone, and whole."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import torch

from fedpeft.errors import RunError
from fedpeft.records import Checkpoint

STATE = {"local.u": torch.arange(6.0).view(2, 3), "held": torch.tensor([0, -1])}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state"
    Checkpoint({"round": 3}, STATE).write(path)
    found = Checkpoint.read(path)
    assert found.values == {"round": 3}
    assert found.tensors.keys() == STATE.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in STATE.items())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_state_that_is_not_finite_leaves_the_last_one(value: float, tmp_path: Path) -> None:
    path = tmp_path / "state"
    broken = {**STATE, "local.u": torch.tensor([1.0, value])}
    with pytest.raises(RunError, match=r"local\.u became infinite or NaN, so no checkpoint was"):
        Checkpoint({"round": 0}, broken).write(path)
    assert list(tmp_path.iterdir()) == []
    Checkpoint({"round": 1}, STATE).write(path)
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"written; the last one stays; lower the learning rates"):
        Checkpoint({"round": 2}, broken).write(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["state"]
