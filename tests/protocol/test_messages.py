"""Messages: exact bytes, versions, and decoders that trust nothing."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.errors import InputError
from fedpeft.graph.messages import ExpansionReply, ExpansionRequest
from fedpeft.protocol.messages import (
    Broadcast,
    PartialSum,
    Snapshot,
    Step,
    Upload,
    extend,
    first_lineage,
)
from fedpeft.protocol.wire import VERSION, Message, MessageError

LINEAGE = bytes(range(32))
MESSAGES: list[Message] = [
    Broadcast(3, 1, LINEAGE, b"payload"),
    Upload(3, 1, 2.0, 0.5, b"change"),
    PartialSum(3, 1, 7, 1, 20.0, 4.5, b"sum"),
    Step(2, b"merged", b"codes"),
    Snapshot(1, "float32", LINEAGE, b"base", b"codes"),
    ExpansionRequest(4, (bytes(16), bytes([1] * 16)), np.array([0.5, -1.0], np.float32)),
    ExpansionReply(4, 2, (np.zeros((0, 2), np.float32), np.ones((3, 2), np.float32))),
]
each = pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)


def same(one: Message, two: Message) -> bool:
    """Return whether two messages say the same; their bytes do."""
    return type(one) is type(two) and one.to_bytes() == two.to_bytes()


@each
def test_a_message_survives_its_bytes(message: Message) -> None:
    data = message.to_bytes()
    assert same(type(message).from_bytes(data), message)
    assert len(data) == message.nbytes >= type(message).size(0)


def test_bytes_of_an_upload() -> None:
    """Four bytes that every message starts with, a fixed head, and the payload."""
    expected = b"fp" + bytes([VERSION, 2]) + struct.pack("<IIff", 3, 1, 2.0, 0.5) + b"change"
    assert Upload(3, 1, 2.0, 0.5, b"change").to_bytes() == expected
    assert Upload.size(len(b"change")) == len(expected)


@each
def test_every_cut_is_refused_or_another_valid_message(message: Message) -> None:
    """A payload's own length is checked by whoever decodes it; heads and inner lengths here."""
    data = message.to_bytes()
    for end in range(type(message).size(0)):
        with pytest.raises(MessageError):
            type(message).from_bytes(data[:end])


@each
def test_another_version_is_refused_by_name(message: Message) -> None:
    data = bytearray(message.to_bytes())
    data[2] = VERSION + 1
    with pytest.raises(MessageError, match=f"protocol version {VERSION + 1} is not spoken here"):
        type(message).from_bytes(bytes(data))


@each
def test_another_kind_is_refused(message: Message) -> None:
    for other in {type(m) for m in MESSAGES} - {type(message)}:
        with pytest.raises(MessageError):
            other.from_bytes(message.to_bytes() + bytes(64))


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_weights_must_be_finite_and_not_negative(weight: float) -> None:
    with pytest.raises(MessageError, match="must be finite and not negative"):
        Upload.from_bytes(Upload(0, 0, weight, 0.0, b"").to_bytes())
    with pytest.raises(MessageError, match="must be finite and not negative"):
        PartialSum.from_bytes(PartialSum(0, 0, 1, 0, weight, 0.0, b"").to_bytes())


@pytest.mark.parametrize("sums", [(0, 3.0, 0.0), (0, 0.0, 1.0), (2, 1.0, math.nan)])
def test_sums_that_nobody_can_have_sent(sums: tuple[int, float, float]) -> None:
    clients, weight, loss = sums
    with pytest.raises(MessageError, match="the sum of nobody, or of losses"):
        PartialSum.from_bytes(PartialSum(0, 0, clients, 0, weight, loss, b"").to_bytes())


def test_inner_lengths_must_add_up() -> None:
    step = bytearray(Step(1, b"abc", b"").to_bytes())
    step[8:16] = struct.pack("<Q", 2**60)  # memory is not taken for what is only announced
    with pytest.raises(MessageError, match=r"bytes are announced, 3 are there"):
        Step.from_bytes(bytes(step))
    request = bytearray(MESSAGES[5].to_bytes())
    request[8:12] = struct.pack("<I", 2**31)
    with pytest.raises(MessageError, match="do not hold"):
        ExpansionRequest.from_bytes(bytes(request))


def test_a_token_twice_is_refused() -> None:
    """Its sender would be returned as its own neighbour."""
    twice = ExpansionRequest(0, (bytes(16), bytes(16)), np.zeros(2, np.float32))
    with pytest.raises(MessageError, match="a token is there twice"):
        ExpansionRequest.from_bytes(twice.to_bytes())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_vectors_that_are_not_finite_are_refused(bad: float) -> None:
    vector = np.array([0.0, bad], np.float32)
    with pytest.raises(MessageError, match="must be finite"):
        ExpansionRequest.from_bytes(ExpansionRequest(0, (bytes(16),), vector).to_bytes())
    with pytest.raises(MessageError, match="must be finite"):
        ExpansionReply.from_bytes(ExpansionReply(0, 2, (vector[None],)).to_bytes())


@settings(deadline=None, max_examples=300)
@given(
    message=st.sampled_from(MESSAGES),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 30),
    more=st.binary(max_size=9),
)
def test_spoilt_messages_are_read_or_refused(
    message: Message, changes: list[tuple[int, int]], cut: int, more: bytes
) -> None:
    """Never another error; and what is read says just what its bytes say."""
    data = bytearray(message.to_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    spoilt = bytes(data[: max(0, len(data) - cut)]) + more
    try:
        read = type(message).from_bytes(spoilt)
    except MessageError:
        return
    assert read.to_bytes() == spoilt


@settings(deadline=None, max_examples=200)
@given(kind=st.sampled_from([type(m) for m in MESSAGES]), data=st.binary(max_size=200))
def test_rubbish_is_refused(kind: type[Message], data: bytes) -> None:
    with pytest.raises(MessageError):
        kind.from_bytes(b"\x00" + data)


def test_message_errors_are_the_users_to_act_on() -> None:
    assert issubclass(MessageError, InputError)
    assert MessageError.exit_code == 2


def test_lineages_tell_every_byte_and_every_border() -> None:
    steps: list[Any] = [Step(1, b"ab", b"c"), Step(1, b"a", b"bc"), Step(1, b"ab", b"")]
    first = first_lineage(0, b"base", b"codes")
    found = {extend(first, step) for step in steps}
    assert len(found | {first, first_lineage(0, b"basec", b"odes"), extend(LINEAGE, steps[0])}) == 6
    assert all(len(lineage) == 32 for lineage in found)
