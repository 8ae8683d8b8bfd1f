"""Nodes with many users each send one sum; combined in a fixed order they are the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedpeft.client import Pipeline, Replica
from fedpeft.data import Histories
from fedpeft.data.ragged import take
from fedpeft.errors import ConfigError
from fedpeft.protocol.aggregate import Partial, combine
from fedpeft.protocol.messages import (
    PartialSum,
)
from fedpeft.protocol.sums import pack_sum, unpack_sum
from fedpeft.protocol.traffic import Traffic
from fedpeft.protocol.wire import MessageError
from fedpeft.server import Server
from fedpeft.server.admission import Admission
from fedpeft.simulation.backend import BACKENDS
from fedpeft.simulation.cohort import CohortSampler
from fedpeft.simulation.population import Population
from fedpeft.simulation.problem import LocalProblem
from fedpeft.simulation.work import Work
from fedpeft.testing import Toy
from fedpeft.testing.toy import random_base
from toys import toy

GRADIENT = {"local": "gradient", "local_steps": 1, "local_decay": 1e-3}
SHARDS = (np.array([0, 3, 4, 7]), np.array([1, 2]), np.array([5, 6, 8, 9, 10, 11]))


def node_sum(run: Toy, ids: np.ndarray, backend: str) -> tuple[Partial, Work]:
    """Return what a node with some of the population's users adds up in round 0."""
    task = run.task()
    replica, pipeline = Replica(task), Pipeline(task)
    server = Server(task)
    state = server.start(random_base(run.split.n_items, run.dim, run.seed))
    for message in server.catch_up(state, None):
        replica.install(message)
    if not server.catch_up(state, None):
        replica.begin()
    broadcast, _ = server.broadcast(state)
    own: Histories = take(run.split.train, ids)
    device = torch.device("cpu")
    population = Population(own, replica.backbone, seed=task.seed, device=device, ids=ids)
    sampler = CohortSampler.of(task, own, ids=ids)
    replica.hold(replica.receive(broadcast))
    pipeline.begin(0, replica.backbone)
    work = Work(
        LocalProblem(task, replica.backbone),
        replica,
        pipeline,
        Admission(task, pipeline.transforms),
        population,
        sampler.draw(0),
        Traffic(len(ids)),
        broadcast,
    )
    return BACKENDS[backend](work), work  # type: ignore[index]


@pytest.mark.parametrize("loss", ["ials", "bpr"])
@pytest.mark.parametrize("backend", ["sequential", "fused", "vmap"])
def test_sums_of_nodes_are_the_sum_of_all(backend: str, loss: str) -> None:
    """A client draws the same wherever it is computed: ids name streams, rows are places."""
    run = toy("lora", loss, **(GRADIENT if loss == "bpr" else {}))
    whole, _ = node_sum(run, np.arange(12), "sequential")
    parts = []
    for ids in SHARDS:
        partial, work = node_sum(run, ids, backend)
        data = pack_sum(partial, 0, 0, work.pipeline.uploads).to_bytes()
        parts.append(unpack_sum(PartialSum.from_bytes(data), work.pipeline.uploads, work.message))
    total = combine(parts)
    assert (total.clients, total.rejected) == (whole.clients, whole.rejected) == (12, 0)
    assert total.weight == whole.weight
    assert total.loss == pytest.approx(whole.loss, rel=1e-5)
    for name, tensor in whole.sum.items():
        torch.testing.assert_close(total.sum[name], tensor, rtol=1e-4, atol=1e-5)
    again = combine(parts)
    assert all(torch.equal(tensor, again.sum[name]) for name, tensor in total.sum.items())


@pytest.mark.parametrize("upload", ["rows", "rank_one", "actions"])
def test_layouts_that_tell_of_single_clients_are_refused(upload: str) -> None:
    partial, work = node_sum(
        toy("full", "bpr", upload=upload, **GRADIENT), np.arange(3), "sequential"
    )
    with pytest.raises(ConfigError, match="cannot be used where only sums may be seen"):
        pack_sum(partial, 0, 0, work.pipeline.uploads)
    message = PartialSum(0, 0, 3, 0, 3.0, 1.0, b"")
    with pytest.raises(ConfigError, match="cannot be used where only sums may be seen"):
        unpack_sum(message, work.pipeline.uploads, work.message)


def test_a_sum_that_does_not_fit_is_refused() -> None:
    partial, work = node_sum(toy("lora"), np.arange(3), "sequential")
    codec = work.pipeline.uploads
    message = pack_sum(partial, 0, 0, codec)
    nothing = {name: torch.full_like(t, torch.nan) for name, t in partial.sum.items()}
    bad = codec.encode(nothing, torch.zeros(0, dtype=torch.int64), None)
    for payload, said in ((bad, "not finite"), (message.payload[:-1], "its layout takes")):
        wrong = PartialSum(0, 0, 3, 0, 3.0, 1.0, payload)
        with pytest.raises(MessageError, match=said):
            unpack_sum(wrong, codec, work.message)
    late = replace(message, round=1)
    with pytest.raises(MessageError, match="answers another broadcast"):
        unpack_sum(late, codec, work.message)
