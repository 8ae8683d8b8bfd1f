"""Uploads laid out otherwise than dense: the backends agree, in what arrives and in bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fedpeft.errors import ConfigError
from fedpeft.protocol.aggregate import Partial
from fedpeft.protocol.encodings import CODECS
from fedpeft.protocol.messages import (
    Upload,
)
from fedpeft.protocol.traffic import Traffic
from fedpeft.simulation import Simulation
from fedpeft.testing import Toy, assert_backends_agree
from fedpeft.testing.toy import GRADIENT, PAPER
from toys import ADAM, NEWTON, SGD, made_split, newton, toy

from .rounds import assert_rounded_alike, run_round
from .test_backends import many_buckets

LOCAL: dict[str, Any] = {**GRADIENT, "local_optimizer": ADAM}
SEVERAL: dict[str, Any] = {**PAPER, "local_optimizer": ADAM, "payload_optimizer": ADAM}
ROWS = [
    ("full", "bpr", "fedmf", LOCAL),
    ("full", "softmax", "fedncf", LOCAL),
    ("lora", "bce", "fedmf", SEVERAL),
    ("lora", "softmax", "fedpergnn", LOCAL),
]
RANK_ONE = [
    ("full", "ials", "fedmf", {}),
    ("full", "bpr", "fedmf", LOCAL),
    ("lora", "ials", "fedmf", {}),
    ("hash", "softmax", "fedmf", LOCAL),
    ("rq", "ials", "fedmf", {}),
]
ACTIONS = [
    ("full", "bpr", "fedmf", LOCAL),
    ("full", "softmax", "fedncf", LOCAL),
    ("lora", "bce", "fedmf", SEVERAL),
    ("full", "ials", "fedmf", {}),
]
EXACT = [("rows", *case) for case in ROWS] + [("rank_one", *case) for case in RANK_ONE]
CASES = EXACT + [("actions", *case) for case in ACTIONS]


def run_of(form: str, adapter: str, loss: str, backbone: str, training: dict[str, Any]) -> Toy:
    """Return a run whose clients upload in a form."""
    own = {"expansion": {"every": 0}} if backbone == "fedpergnn" else {}
    run = replace(toy(adapter, loss, upload=form, **training), backbone=(backbone, own))
    return run.with_training(actions=4) if form == "actions" else run


def told(simulation: Simulation) -> tuple[Partial, int]:
    """Return the sum of the next round, and the bytes of its uploads."""
    simulation.traffic = Traffic(len(simulation.population))
    with many_buckets():
        total = run_round(simulation)
    return total, simulation.traffic.close(0, "adapt", 6, 0, None).upload


@pytest.mark.parametrize(("form", "adapter", "loss", "backbone", "training"), CASES)
def test_backends_agree(
    form: str, adapter: str, loss: str, backbone: str, training: dict[str, Any]
) -> None:
    run = run_of(form, adapter, loss, backbone, training)
    with many_buckets():
        assert_backends_agree(run.with_training(warmup_rounds=1, refresh_every=2), rounds=4)


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize(("form", "adapter", "loss", "backbone", "training"), CASES)
def test_backends_agree_through_an_encoding(
    form: str, adapter: str, loss: str, backbone: str, training: dict[str, Any], encoding: str
) -> None:
    run = run_of(form, adapter, loss, backbone, training)
    run = run.with_training(encoding=encoding, download_encoding="float32")
    fast = run.simulation().backend
    alone = encoding != "float32" or training is SEVERAL or form == "actions"
    assert (fast == "vmap") == alone
    (one, own), (two, other) = (told(run.simulation(name)) for name in ("sequential", fast))
    assert own == other
    assert_rounded_alike(one, two, 1e-5 if encoding == "float32" else None)


@pytest.mark.parametrize(("form", "adapter", "loss", "backbone", "training"), EXACT)
def test_the_form_changes_bytes_and_nothing_else(
    form: str, adapter: str, loss: str, backbone: str, training: dict[str, Any]
) -> None:
    run = replace(run_of(form, adapter, loss, backbone, training), split=made_split([3] * 9, 300))
    (short, few), (dense, many) = (
        told(run.with_training(upload=how).simulation()) for how in (form, "dense")
    )
    assert 0 < few < many
    assert (short.clients, short.weight, short.rejected) == (dense.clients, dense.weight, 0)
    for name, tensor in dense.sum.items():
        torch.testing.assert_close(short.sum[name], tensor, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_a_second_order_server_that_sees_histories_does_the_same(adapter: str) -> None:
    """The whole run, with merges: an upload has less to say, and says the same."""
    dense = newton(adapter, cohort=1.0)
    short = dense.with_training(upload="rank_one")
    with many_buckets():
        assert_backends_agree(short, rounds=5)
    one, two = dense.simulation(), short.simulation()
    assert two.backend == "fused"
    for _ in range(5):
        one.step()
        two.step()
    torch.testing.assert_close(two.item_vectors(), one.item_vectors(), atol=1e-4, rtol=1e-4)
    lengths = dense.split.train.lengths()
    expected = sum(Upload.size(4 + 4 * length + 4 * (6 + 2 * length)) for length in lengths)
    assert two.traffic.totals.upload == 5 * expected


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_histories_through_an_encoding(adapter: str, encoding: str) -> None:
    run = newton(adapter, upload="rank_one", encoding=encoding, download_encoding="float32")
    fast = run.simulation().backend
    (one, own), (two, other) = (told(run.simulation(name)) for name in ("sequential", fast))
    assert own == other
    assert_rounded_alike(one, two, 1e-5 if encoding == "float32" else None)


@pytest.mark.parametrize("backend", ["sequential", "vmap"])
def test_actions_cost_the_same_for_all(backend: str) -> None:
    run = run_of("actions", "full", "bpr", "fedmf", LOCAL)
    entry = run.simulation(backend).step().entry
    assert entry.upload == entry.clients * Upload.size(4 + 3 * 4 * 6)  # 15 items of two bits


@pytest.mark.parametrize("backend", ["sequential", "vmap", "fused"])
def test_rows_cost_what_a_client_touched(backend: str) -> None:
    run = run_of("rows", "full", "bpr", "fedmf", LOCAL).with_training(cohort=1.0)
    simulation = run.simulation(backend)
    cohort = simulation.sampler.draw(0)
    touched = [len(set(cohort.of(place).ravel().tolist())) for place in range(len(cohort))]
    assert len(set(touched)) > 3
    expected = sum(Upload.size(4 + rows * (4 + 4 * 6)) for rows in touched)
    assert simulation.step().entry.upload == expected


@pytest.mark.parametrize(
    ("form", "adapter", "loss", "backbone", "training", "said"),
    [
        ("rows", "full", "ials", "fedmf", {}, "no row to leave out"),
        ("rows", "hash", "bpr", "fedmf", LOCAL, "no tensor with one row per item"),
        ("rank_one", "senet", "ials", "fedmf", {}, "changes of rank one"),
        ("rank_one", "lora", "bpr", "fedmf", SEVERAL, "changes of rank one"),
        ("rank_one", "full", "bpr", "fedncf", LOCAL, "changes of rank one"),
        ("rank_one", "full", "ials", "fedpergnn", {}, "changes of rank one"),
        ("rank_one", "full", "ials", "fedmf", {"frequency_decay": 0.1}, "makes longer"),
        ("rank_one", "hash", "ials", "fedmf", NEWTON, "no tensor with one row per item"),
        ("actions", "rq", "bpr", "fedmf", LOCAL, "no tensor with one row per item"),
    ],
)
def test_what_would_lose_something_is_refused(
    form: str, adapter: str, loss: str, backbone: str, training: dict[str, Any], said: str
) -> None:
    run = run_of(form, adapter, loss, backbone, training)
    run.with_training(upload="dense").simulation()
    with pytest.raises(ConfigError, match=said) as caught:
        run.simulation()
    assert "use 'dense'" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_rows_and_a_mask_that_fills_others_in_are_refused() -> None:
    run = run_of("rows", "full", "bpr", "fedmf", {**LOCAL, "server_optimizer": SGD})
    run.simulation()
    masked = {"expansion": {"every": 2, "mask_upload": True}}
    with pytest.raises(ConfigError, match="leaves out values"):
        replace(run, backbone=("fedpergnn", masked)).simulation()
