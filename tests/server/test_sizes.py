"""Lengths of messages from shapes alone, by hand and against the messages themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedpeft.protocol.encodings import CODECS
from fedpeft.server.sizes import MessageSizes, message_sizes
from fedpeft.simulation import Simulation
from fedpeft.testing.toy import GRADIENT
from toys import ADAPTERS, newton, toy

N, K = 15, 6
BASE = 4 * N * K
NARROW = {
    "float32": 4 * N * K,
    "float16": 2 * N * K,
    "int8": N * K + 4 * 2,
    "int4": N * K // 2 + 4 * 2,
}  # 90 values: 2 scales
LORA = 4 * (N * 3 + 3 * K)
UPLOAD, BROADCAST, STEP, SNAPSHOT = 20, 44, 16, 49
"""Heads of the messages."""


def sizes_of(simulation: Simulation) -> MessageSizes:
    return message_sizes(simulation.task, simulation.replica.backbone)


@pytest.mark.parametrize(("encoding", "moments"), [("float32", 4 * 21), ("int8", 21 + 4)])
def test_statistics_of_a_second_order_server(encoding: str, moments: int) -> None:
    """k (k + 1) / 2 values beside the change, in its encoding: one block of 64 has one scale."""
    found = sizes_of(newton("full", encoding=encoding).simulation())
    assert found.statistics == moments
    assert found.upload == NARROW[encoding] + moments + UPLOAD


def hash_bytes(hashes: int) -> int:
    """Name, type, dimensions, and a and b of each hash as 8 bytes each."""
    return 3 + len("coefficients") + 4 * 2 + 8 * 2 * hashes


@pytest.mark.parametrize(
    ("adapter", "mode", "payload", "base", "subspace"),
    [
        ("full", "peft", 4 * N * K, 0, 0),
        ("full", "compress", 4 * N * K, 0, 0),
        ("lora", "peft", LORA, BASE, 0),
        ("lora", "compress", LORA, 0, 0),
        ("hash", "peft", 4 * 8 * K, BASE, hash_bytes(2)),
        ("hash", "compress", 4 * 8 * K, 0, hash_bytes(2)),
        ("senet", "peft", 4 * (8 * K + 3 * 1 + 1 * 3), BASE, hash_bytes(3)),
        ("rq", "peft", 4 * 2 * 4 * K, BASE, 8),  # 15 items x 2 levels x 2 bits = 60 bits
        ("rq", "compress", 4 * 2 * 4 * K, 0, 8),
    ],
)
def test_sizes_by_hand(adapter: str, mode: str, payload: int, base: int, subspace: int) -> None:
    simulation = toy(adapter, mode=mode).simulation()
    fresh = 0 if (adapter, mode) in (("hash", "peft"), ("rq", "peft")) else payload
    assert sizes_of(simulation) == MessageSizes(
        upload=payload + UPLOAD,
        statistics=0,
        download=payload + BROADCAST,
        fresh=fresh + BROADCAST,
        step=payload + subspace + STEP,
        base=base,
        subspace=subspace,
        encoded_base=base,
        snapshot=base + subspace + SNAPSHOT,
        encoded_snapshot=base + subspace + SNAPSHOT,
    )
    entry = simulation.step().entry
    assert entry.upload == 6 * (payload + UPLOAD)
    assert entry.download == 6 * (fresh + BROADCAST)
    assert simulation.step().entry.download == 6 * (payload + BROADCAST)
    first = base + subspace + SNAPSHOT if base or subspace else 0
    assert entry.initial_download == 6 * first


@pytest.mark.parametrize("encoding", CODECS)
def test_bases_are_encoded_as_the_broadcast_is(encoding: str) -> None:
    sizes = sizes_of(toy("lora", encoding=encoding).simulation())
    assert (sizes.base, sizes.encoded_base) == (BASE, NARROW[encoding])
    assert sizes.encoded_snapshot == NARROW[encoding] + SNAPSHOT
    assert sizes.coded_snapshot(11) == 11 + SNAPSHOT


def test_download_may_be_narrower_than_upload() -> None:
    narrow = 63 + 4 * (1 + 1)  # LoRA's A has 45 values and B 18: one scale each
    sizes = sizes_of(toy("lora", download_encoding="int8").simulation())
    assert (sizes.upload, sizes.download) == (LORA + UPLOAD, narrow + BROADCAST)
    assert sizes.step == narrow + STEP
    both = sizes_of(toy("lora", download_encoding="int8", encoding="int8").simulation())
    assert both.upload == narrow + UPLOAD


def test_an_upload_of_touched_rows_has_no_size_of_its_own() -> None:
    simulation = toy("full", "softmax", upload="rows", **GRADIENT).simulation()
    assert sizes_of(simulation).upload is None


@pytest.mark.parametrize(
    ("codes", "nbytes"), [(2, 4), (3, 8), (4, 8), (5, 12), (256, 30), (257, 34)]
)
def test_codes_take_whole_bits(codes: int, nbytes: int) -> None:
    run = replace(toy("rq"), adapter=("rq", {"levels": 2, "codes": codes}))
    assert sizes_of(run.simulation()).subspace == nbytes


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_sizes_are_the_lengths_of_the_messages(adapter: str, encoding: str) -> None:
    simulation = toy(adapter, warmup_rounds=1, refresh_every=1, encoding=encoding).simulation()
    server, state = simulation.server, simulation.state
    assert len(server.broadcast(state)[0].to_bytes()) == server.broadcast_size(state)
    simulation.step()
    simulation.step()
    sizes, state = sizes_of(simulation), simulation.state
    assert len(state.first.to_bytes()) == sizes.encoded_snapshot
    state, event = server.begin(state)
    assert event == "refresh"
    assert len(state.steps[0].to_bytes()) == sizes.step
    assert len(server.snapshot(state).to_bytes()) == sizes.snapshot
    broadcast = server.broadcast(state)[0].to_bytes()
    assert len(broadcast) == sizes.fresh == server.broadcast_size(state)
    simulation.step()
    assert server.broadcast_size(simulation.state) == sizes.download
    pipeline = simulation.pipeline
    pipeline.begin(2, simulation.replica.backbone)
    payload = pipeline.encode(state.payload, 0, torch.arange(2))
    assert len(payload) + UPLOAD == sizes.upload
