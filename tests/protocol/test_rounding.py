"""What clients send in few bits: rounded at random, right in the mean, alike in every backend."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft import memory
from fedpeft.protocol.encodings import CODECS, Blocks, Codec, Encoding, Int8
from toys import toy

from .test_encoding import DRAWN, NARROW, drawn_values, narrow, steps

ITEM = toy("lora").simulation().server.item


def uploads(
    codec: Codec, clients: int, rounds: int, change: torch.Tensor, seed: int = 0
) -> torch.Tensor:
    """Return what arrives of the same change from every client in every round."""
    encoding = Encoding(codec, clients, seed)
    arrived = []
    for number in range(rounds):
        encoding.begin(number, ITEM)
        stacked = change.expand(clients, *change.shape)
        arrived.append(encoding.on_user({"x": stacked}, torch.arange(clients))["x"])
    return torch.stack(arrived)


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
    up = uploads(Int8(), 6, 4000, torch.tensor([127.0, 0.5]))[..., 1]
    correlation = torch.corrcoef(up.T) - torch.eye(6)
    assert float(correlation.abs().max()) < 5 / 4000**0.5


def test_rounding_depends_on_round_and_client_alone() -> None:
    """Whatever else is in the same call, as every backend cuts a cohort up in another way."""
    change = {"x": torch.randn(4, 3, 50, generator=torch.Generator().manual_seed(1))}
    users = torch.tensor([5, 0, 7, 2])
    encoding = Encoding(Int8(), 9, seed=3)
    encoding.begin(4, ITEM)
    together = encoding.on_user(change, users)["x"]
    encoding = Encoding(Int8(), 9, seed=3)
    encoding.begin(4, ITEM)
    for place in (2, 0, 3, 1):
        alone = encoding.on_user({"x": change["x"][place : place + 1]}, users[place : place + 1])
        assert torch.equal(alone["x"][0], together[place])
    encoding.begin(5, ITEM)
    assert not torch.equal(encoding.on_user(change, users)["x"], together)


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


def test_encoding_is_a_transform() -> None:
    change = {"x": torch.tensor([[127.0, 0.4]])}
    users = torch.tensor([1])
    exact = Encoding(CODECS["float16"](), 2, seed=0)
    assert not exact.dense
    assert torch.equal(exact.on_user(change, users)["x"], change["x"].half().float())
    for codec in NARROW:
        lossy = Encoding(codec, 2, seed=0)
        assert lossy.dense  # a block spans rows, so every row travels
        assert torch.equal(lossy.on_mean(change, 5)["x"], change["x"])
