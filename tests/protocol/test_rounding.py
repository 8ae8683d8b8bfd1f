"""What clients send in few bits: rounded at random, right in the mean, alike in every backend."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft import memory
from fedpeft.client import Pipeline
from fedpeft.protocol.encodings import CODECS, Blocks, Codec, Int8
from fedpeft.testing.toy import GRADIENT
from toys import toy

from .test_encoding import DRAWN, NARROW, drawn_values, narrow, steps

SIMULATIONS = {name: toy("lora", encoding=name).simulation() for name in CODECS}


def pipeline_of(encoding: str, round_number: int, seed: int = 0) -> Pipeline:
    """Return the pipeline of a run with this encoding, at a round."""
    simulation = SIMULATIONS[encoding]
    pipeline = Pipeline(replace(simulation.task, seed=seed))
    pipeline.begin(round_number, simulation.replica.backbone)
    return pipeline


def uploads(
    codec: Codec, clients: int, rounds: int, change: torch.Tensor, seed: int = 0
) -> torch.Tensor:
    """Return what arrives of the same change from every client in every round."""
    stacked = {"x": change.expand(clients, *change.shape)}
    ids = torch.arange(clients)
    encoding = type(codec).__name__.lower()
    return torch.stack(
        [pipeline_of(encoding, r, seed).arrived(stacked, ids)["x"] for r in range(rounds)]
    )


@narrow
def test_uploads_are_right_in_the_mean_over_clients(narrow: Blocks) -> None:
    """Unbiased, and no worse than independent rounding: one standard error is below .5 / sqrt."""
    most = float(narrow.most)
    change = torch.tensor([most, 0.3, -0.8, 4.25, 0.0, -most])
    arrived = uploads(narrow, 2000, 1, change)[0]
    assert set(arrived[:, 1].tolist()) == {0.0, 1.0}
    assert set(arrived[:, 2].tolist()) == {-1.0, 0.0}
    assert float((arrived.mean(0) - change).abs().max()) < 4 * 0.5 / 2000**0.5
    for exact in (0, 4, 5):
        assert (arrived[:, exact] == change[exact]).all()


@narrow
def test_one_client_is_right_in_the_mean_over_rounds(narrow: Blocks) -> None:
    change = torch.tensor([[float(narrow.most), 0.3], [-0.8, 4.25]])
    arrived = uploads(narrow, 1, 2000, change)[:, 0]
    assert float((arrived.mean(0) - change).abs().max()) < 4 * 0.5 / 2000**0.5


def test_clients_round_independently() -> None:
    """Over rounds, what two clients make of a value is uncorrelated."""
    up = uploads(Int8(), 6, 2000, torch.tensor([127.0, 0.5]))[..., 1]
    correlation = torch.corrcoef(up.T) - torch.eye(6)
    assert float(correlation.abs().max()) < 5 / 2000**0.5


def test_rounding_depends_on_round_and_client_alone() -> None:
    """Whatever else is in the same call, as every backend cuts a cohort up in another way."""
    change = {"x": torch.randn(4, 3, 50, generator=torch.Generator().manual_seed(1))}
    ids = torch.tensor([5, 0, 7, 2])
    together = pipeline_of("int8", 4, seed=3).arrived(change, ids)["x"]
    pipeline = pipeline_of("int8", 4, seed=3)
    for place in (2, 0, 3, 1):
        alone = pipeline.arrived({"x": change["x"][place : place + 1]}, ids[place : place + 1])
        assert torch.equal(alone["x"][0], together[place])
    for other in (pipeline_of("int8", 5, seed=3), pipeline_of("int8", 4, seed=2)):
        assert not torch.equal(other.arrived(change, ids)["x"], together)


@pytest.mark.parametrize("encoding", CODECS)
def test_what_arrives_is_what_the_bytes_of_each_client_hold(encoding: str) -> None:
    rng = torch.Generator().manual_seed(2)
    change = {
        "x": torch.randn(5, 3, 50, generator=rng),  # more than a block
        "b": torch.randn(5, generator=rng),  # one plain number per client
        "z": torch.zeros(5, 70),
    }
    ids = torch.tensor([5, 0, 7, 2**31 + 3, 1])
    pipeline, codec = pipeline_of(encoding, 6), CODECS[encoding]()
    arrived = pipeline.arrived(change, ids)
    for place, client in enumerate(ids.tolist()):
        own = {name: tensor[place] for name, tensor in change.items()}
        data = pipeline.encode(own, client, torch.arange(3))
        found = codec.decode(data, {name: tensor.shape for name, tensor in own.items()})
        for name, tensor in found.items():
            assert torch.equal(tensor, arrived[name][place]), (encoding, name)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("encoding", CODECS)
def test_a_change_that_is_not_finite_is_sent_as_such(encoding: str, bad: float) -> None:
    """A narrow encoding would pass infinity off as its largest value."""
    change = {"a": torch.ones(70), "b": torch.tensor([bad, 1.0])}
    data = pipeline_of(encoding, 0).encode(change, 3, torch.arange(3))
    found = CODECS[encoding]().decode(data, {n: t.shape for n, t in change.items()})
    assert all(tensor.isnan().all() for tensor in found.values())


@given(**DRAWN)
def test_a_random_rounding_is_off_by_less_than_a_step(
    seed: int, values: int, size: int, codec: Blocks
) -> None:
    change = drawn_values(seed, values, size)
    arrived = uploads(codec, 2, 1, change, seed)[0]
    assert ((arrived - change).abs() <= steps(change, codec) * (1 + 1e-4)).all()


def dithered_value_by_value(
    most: int, stacked: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """The slow, readable version of `Blocks.dithered`."""
    arrived = torch.zeros_like(stacked)
    for client in range(len(stacked)):
        for value in range(stacked.shape[1]):
            first = value // 64 * 64
            scale = stacked[client, first : first + 64].abs().max() / most
            if scale > 0:
                dither = (rows[client] + columns[value]).frac()
                whole = (stacked[client, value] / scale + dither).floor().clamp(-most, most)
                arrived[client, value] = whole * scale
    return arrived


@settings(deadline=None, max_examples=30)
@given(
    clients=st.integers(0, 4),
    values=st.integers(1, 140),
    cached=st.integers(1, 2000),
    seed=st.integers(0, 99),
    codec=st.sampled_from(NARROW),
)
def test_rounding_in_the_cache_equals_rounding_value_by_value(
    clients: int, values: int, cached: int, seed: int, codec: Blocks
) -> None:
    rng = torch.Generator().manual_seed(seed)
    stacked = torch.randn(clients, values, generator=rng)
    stacked[:, 64:70] = 0  # the least that a second block may hold, and all of it at times
    rows, columns = torch.rand(clients, generator=rng), torch.rand(values, generator=rng)
    with patch.dict(memory.LIMITS, cpu=replace(memory.LIMITS["cpu"], cached=cached)):
        arrived = codec.dithered(stacked, rows, columns)
    assert torch.equal(arrived, dithered_value_by_value(codec.most, stacked, rows, columns))


@pytest.mark.parametrize("encoding", CODECS)
def test_blocks_span_rows_so_every_row_travels(encoding: str) -> None:
    pipeline = pipeline_of(encoding, 0)
    assert pipeline.dense == (encoding in ("int8", "int4"))
    assert pipeline.per_client == (encoding != "float32")
    form = {"loss": "softmax", "upload": "rows", "encoding": encoding, **GRADIENT}
    assert not Pipeline(toy("lora", **form).simulation().task).dense  # only touched rows are packed
