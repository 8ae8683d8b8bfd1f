"""Codes of RQ reach a device as bytes that are counted, whatever the preset; it derives none."""

from __future__ import annotations

from math import ceil
from typing import Any

import pytest
import torch

from fedpeft.adapters import rq
from fedpeft.config import merge
from fedpeft.experiment import build, prepare, presets, resolve
from fedpeft.protocol.messages import Snapshot
from fedpeft.simulation import RunOptions

from .walked import RQ, SMALL, SPARSE

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("preset", presets.names())
def test_codes_are_sent_and_counted(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own: dict[str, Any] = {"preset": preset, "adapter": RQ, "training": {"cohort": 1.0}}
    settings = merge(merge(SMALL, SPARSE), own)
    if preset == "paper":  # whose codes are of the texts, for good
        texts = {"hidden": [8], "rqvae": {"epochs": 3, "batch_size": 64}}
        settings = merge(settings, {"items": texts, "training": {"refresh_every": 0}})
    run = resolve(settings)
    derived: list[Any] = []
    kmeans = rq.residual_kmeans

    def counted(*args: Any, **settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
        derived.append(args)
        return kmeans(*args, **settings)

    monkeypatch.setattr(rq, "residual_kmeans", counted)
    prepared = prepare(run)
    simulation = build(run, prepared.split, prepared.items, RunOptions(device="cpu"))
    for _ in range(run.training.rounds):
        simulation.step()
    state, n_items = simulation.state, prepared.split.n_items
    packed = ceil(n_items * 2 * 2 / 8)
    sent = [state.first, *state.steps]
    assert [len(message.subspace) for message in sent] == [packed] * len(sent)
    last = simulation.task.adapter.unpack_subspace(sent[-1].subspace, n_items)["codes"]
    assert torch.equal(simulation.replica.backbone.item.codes, last)
    assert len(derived) == (0 if preset == "paper" else len(sent)), "a device has derived codes"
    assert state.first.nbytes == Snapshot.size(len(state.first.base) + packed)
    totals, users = simulation.traffic.totals, prepared.split.n_users
    assert totals.initial_download == users * state.first.nbytes
    assert totals.resync == users * sum(step.nbytes for step in state.steps)
    assert (len(sent) > 1) == (preset != "paper")
