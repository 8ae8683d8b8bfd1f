"""Streams of clients: known words, independence of the company, the right distributions."""

from __future__ import annotations

import numpy as np
import pytest

from fedpeft.streams import ClientStream, mix


def test_words_are_those_of_splitmix64() -> None:
    """The first five words of the published generator, from the state 1234567."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    states = np.uint64(1234567) + golden * np.arange(1, 6, dtype=np.uint64)
    assert mix(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a_client_draws_alone_what_it_draws_in_company() -> None:
    stream = ClientStream(3, "round", 7)
    ids, places = np.array([5, 2, 2**40]), np.arange(11)
    together = stream.words(ids[:, None], places)
    for row, one in enumerate(ids):
        assert (stream.words(np.array([one]), places) == together[row]).all()
        assert (stream.normal(np.array([one]), 5) == stream.normal(ids, 5)[row]).all()
    assert len(np.unique(together)) == together.size


def test_names_and_clients_have_streams_of_their_own() -> None:
    ids, places = np.arange(4)[:, None], np.arange(6)
    names: list[tuple[int, tuple[str | int, ...]]] = [(0, ()), (1, ()), (0, ("a",)), (0, ("a", 1))]
    drawn = np.stack([ClientStream(seed, *path).words(ids, places) for seed, path in names])
    assert len(np.unique(drawn)) == drawn.size


@pytest.mark.parametrize("limit", [1, 2, 10, 2**31])
def test_integers_stay_below_their_limit(limit: int) -> None:
    drawn = ClientStream(0).below(np.arange(100)[:, None], np.arange(100), limit)
    assert drawn.dtype == np.int64
    assert ((drawn >= 0) & (drawn < limit)).all()
    assert drawn.max() >= 0.9 * (limit - 1)


def test_uniform_over_clients_and_over_places() -> None:
    drawn = ClientStream(1).uniform(np.arange(300)[:, None], np.arange(300))
    for axis in (0, 1):  # a mean of 300 has a standard deviation of 0.0167
        assert abs(drawn.mean(axis) - 0.5).max() < 4.5 * 0.0167
    counts = np.histogram(drawn, bins=10, range=(0, 1))[0]
    assert ((counts - 9000) ** 2 / 9000).sum() < 27.9  # 0.999 quantile, 9 degrees of freedom


@pytest.mark.parametrize("values", [0, 1, 2, 7])
def test_normal_numbers(values: int) -> None:
    drawn = ClientStream(2).normal(np.arange(20_000), values)
    assert drawn.shape == (20_000, values)
    assert drawn.dtype == np.float32
    if values:
        assert abs(drawn.mean(0)).max() < 4.5 / 20_000**0.5
        assert abs(drawn.std(0) - 1).max() < 0.03
        correlation = np.corrcoef(drawn.T) if values > 1 else np.ones((1, 1))
        assert abs(correlation - np.eye(values)).max() < 0.04


def test_rows_name_the_client_of_each_place() -> None:
    stream, ids = ClientStream(3, "rows"), np.array([9, 2, 4])
    row, places = np.array([0, 0, 2, 1, 2]), np.array([0, 1, 0, 5, 7])
    assert (stream.words(ids, places, row) == stream.words(ids[row], places)).all()
