"""Clients in another process, which receives and sends nothing but bytes, end in the same state.

The server here never sees a history, a local parameter or the clients' key.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedpeft.testing import Toy
from fedpeft.testing.toy import random_base
from toys import ADAPTERS, newton, toy

from .server import Wire, serve

ENCODINGS = ["float32", "float16", "int8", "int4"]
ROUNDS = 8
PHASES = {"warmup_rounds": 2, "refresh_every": 2}
"""The warm-up ends before round 2, merges come before rounds 4 and 6."""


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[bytes]]:
    """The clients' process."""
    device = Path(__file__).with_name("device.py")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, str(device)], stdin=pipe, stdout=pipe, env={**os.environ}
    ) as running:
        yield running
        assert running.stdin is not None
        running.stdin.close()


def check(run: Toy, process: subprocess.Popen[bytes], every: int = 0) -> None:
    """Compare a run over the wire with the sequential backend in one process, bit for bit."""
    simulation = run.simulation("sequential")
    cohorts, events = [], set()
    for number in range(ROUNDS):
        cohorts.append(simulation.sampler.rows(number).tolist())
        events.add(simulation.step().entry.event)
    state, traffic, _ = serve(run, Wire(process), cohorts, every=every)
    assert state.to_dict() == simulation.state.to_dict()
    found, expected = state.to_tensors(), simulation.state.to_tensors()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert traffic.totals == simulation.traffic.totals
    if run.training.get("warmup_rounds"):
        assert {"warmup_end", "refresh"} <= events
    moved = random_base(run.split.n_items, run.dim, run.seed) - simulation.item_vectors()
    assert float(moved.abs().max()) > 1e-3, "nothing was learnt, so nothing was compared"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_in_every_encoding(
    adapter: str, encoding: str, process: subprocess.Popen[bytes]
) -> None:
    phases = {} if adapter == "full" else PHASES
    check(toy(adapter, encoding=encoding, **phases), process)


@pytest.mark.parametrize("encoding", ["float32", "int8"])
@pytest.mark.parametrize("adapter", ["full", "lora", "hash", "rq"])
def test_a_second_order_server(
    adapter: str, encoding: str, process: subprocess.Popen[bytes]
) -> None:
    merges = {} if adapter == "full" else PHASES
    check(newton(adapter, encoding=encoding, **merges), process)


@pytest.mark.parametrize("encoding", ["float32", "int8"])
@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_histories(adapter: str, encoding: str, process: subprocess.Popen[bytes]) -> None:
    merges = {} if adapter == "full" else PHASES
    check(newton(adapter, encoding=encoding, upload="rank_one", **merges), process)


@pytest.mark.parametrize("upload", ["rows", "rank_one", "actions"])
@pytest.mark.parametrize("encoding", ["float32", "int8"])
def test_shorter_uploads(upload: str, encoding: str, process: subprocess.Popen[bytes]) -> None:
    gradient = {"local": "gradient", "local_steps": 2, "local_decay": 1e-3}
    check(toy("full", "bpr", encoding=encoding, upload=upload, **gradient), process)
    check(toy("lora", "bpr", encoding=encoding, upload=upload, **gradient, **PHASES), process)


@pytest.mark.parametrize("mode", ["peft", "compress"])
def test_several_steps_and_weights(mode: str, process: subprocess.Popen[bytes]) -> None:
    """Federated averaging: weights by samples, joint Adam steps, clipping, int8 both ways."""
    settings: dict[str, Any] = {
        "local": "gradient",
        "local_optimizer": {"kind": "adam", "lr": 0.02},
        "payload_steps": 2,
        "payload_optimizer": {"kind": "adam", "lr": 0.02},
        "joint": True,
        "server_optimizer": {"kind": "sgd", "lr": 1.0},
        "encoding": "int8",
        "transforms": {"clip": {"norm": 0.3}},
    }
    phases = PHASES if mode == "peft" else {}
    check(toy("hash", "bce", mode, **settings, **phases), process)


@pytest.mark.parametrize("encoding", ["float32", "int8"])
def test_graph_expansion(encoding: str, process: subprocess.Popen[bytes]) -> None:
    config = {"expansion": {"every": 3, "neighbours": 2, "pseudo": 1, "noise": 0.1}}
    run = replace(toy("lora", encoding=encoding, **PHASES), backbone=("fedpergnn", config))
    check(run, process, every=3)


def test_networks(process: subprocess.Popen[bytes]) -> None:
    """Shared parameters travel along, and a client's own network stays where it is."""
    gradient = {"local": "gradient", "local_steps": 1, "local_optimizer": {"lr": 0.02}}
    for backbone in ("fedncf", "pfedrec"):
        run = replace(
            toy("rq", "softmax", encoding="int8", **gradient, **PHASES),
            backbone=(backbone, {"hidden": [6]}),
        )
        check(run, process)


def test_histories_of_every_length_were_among_them() -> None:
    lengths = np.diff(toy().split.train.indptr)
    assert {0, 1} <= set(lengths.tolist())
