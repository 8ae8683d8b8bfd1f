"""Requests and replies of graph expansion as bytes."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.graph.messages import ExpansionReply, ExpansionRequest
from fedpeft.protocol.wire import MessageError

TOKENS = (b"a" * 16, b"b" * 16)
VECTOR = np.array([1.5, -2.0], np.float32)
REQUEST = ExpansionRequest(3, TOKENS, VECTOR)
NEIGHBOURS = (np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), np.zeros((0, 2), np.float32))
REPLY = ExpansionReply(3, 2, NEIGHBOURS)


def test_bytes_by_hand() -> None:
    sent = (
        struct.pack("<2sBBII", b"fp", 1, 6, 3, 2) + b"".join(TOKENS) + struct.pack("<2f", 1.5, -2)
    )
    assert REQUEST.to_bytes() == sent
    told = struct.pack("<2sBBIII", b"fp", 1, 7, 3, 2, 2) + struct.pack("<2H4f", 2, 0, 1, 2, 3, 4)
    assert REPLY.to_bytes() == told


@given(
    count=st.integers(0, 4),
    dim=st.integers(0, 5),
    counts=st.lists(st.integers(0, 3), max_size=4),
    seed=st.integers(0, 9),
)
def test_round_trip(count: int, dim: int, counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = tuple(bytes([place]) * 16 for place in range(count))
    request = ExpansionRequest(seed, tokens, rng.standard_normal(dim).astype(np.float32))
    back = ExpansionRequest.from_bytes(request.to_bytes())
    assert (back.round, back.tokens) == (seed, tokens)
    assert np.array_equal(back.vector, request.vector)
    found = tuple(rng.standard_normal((rows, dim)).astype(np.float32) for rows in counts)
    reply = ExpansionReply.from_bytes(ExpansionReply(seed, dim, found).to_bytes())
    assert (reply.round, reply.dim, len(reply.neighbours)) == (seed, dim, len(found))
    for one, two in zip(found, reply.neighbours, strict=True):
        assert np.array_equal(one, two)
        assert one.shape == two.shape


def test_a_repeated_token_is_refused() -> None:
    twice = replace(REQUEST, tokens=(b"a" * 16, b"a" * 16))
    with pytest.raises(MessageError, match="twice"):
        ExpansionRequest.from_bytes(twice.to_bytes())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused(bad: float) -> None:
    vector = np.array([1.0, bad], np.float32)
    with pytest.raises(MessageError, match="finite"):
        ExpansionRequest.from_bytes(replace(REQUEST, vector=vector).to_bytes())
    with pytest.raises(MessageError, match="finite"):
        ExpansionReply.from_bytes(replace(REPLY, neighbours=(vector[None],)).to_bytes())


@pytest.mark.parametrize("message", [REQUEST, REPLY], ids=["request", "reply"])
def test_whatever_is_cut_off_is_refused(message: ExpansionRequest | ExpansionReply) -> None:
    """A request that loses whole values of its vector is a shorter vector."""
    data = message.to_bytes()
    for length in range(len(data)):
        if message is REQUEST and length >= 12 + 32 and length % 4 == 0:
            continue
        with pytest.raises(MessageError):
            type(message).from_bytes(data[:length])


def test_a_length_that_lies_takes_no_memory() -> None:
    for kind, message in ((6, ExpansionRequest), (7, ExpansionReply)):
        head = struct.pack("<2sBB", b"fp", 1, kind) + b"\xff" * message.head.size
        with pytest.raises(MessageError, match="do not hold 4294967295"):
            message.from_bytes(head)
    many = struct.pack("<2sBBIII", b"fp", 1, 7, 0, 2**32 - 1, 2) + struct.pack("<2H", 65535, 65535)
    with pytest.raises(MessageError, match="do not hold 131070 vectors"):
        ExpansionReply.from_bytes(many)
