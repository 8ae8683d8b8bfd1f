"""Values on the wire: exact bytes, exact values, bounded errors."""

from __future__ import annotations

import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.protocol.encodings import CODECS, Blocks, Codec, Int4, Int8
from fedpeft.protocol.wire import MessageError

NARROW = [Int8(), Int4()]
narrow = pytest.mark.parametrize("narrow", NARROW, ids=["int8", "int4"])
SHAPES = st.lists(st.lists(st.integers(1, 9), max_size=3).map(tuple), min_size=1, max_size=4)


DRAWN = {
    "seed": st.integers(0, 99),
    "values": st.integers(1, 200),
    "size": st.integers(-20, 20),
    "codec": st.sampled_from(NARROW),
}


def drawn_values(seed: int, values: int, size: int) -> torch.Tensor:
    """Return normal values of about 2 ** size."""
    return torch.randn(values, generator=torch.Generator().manual_seed(seed)) * 2.0**size


def steps(sent: torch.Tensor, codec: Blocks) -> torch.Tensor:
    """Return the distance of neighbouring integers at each of the values (N,), block by block."""
    largest = [block.abs().max().expand(len(block)) for block in sent.split(64)]
    return torch.cat(largest) / codec.most


def tensors_of(shapes: list[tuple[int, ...]], seed: int, scale: float = 1.0) -> dict:
    rng = torch.Generator().manual_seed(seed)
    return {
        f"t{number}": torch.randn(shape, generator=rng) * scale
        for number, shape in enumerate(shapes)
    }


def shapes_of(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Codec:
    return CODECS[request.param]()


def test_float32_bytes() -> None:
    sent = {"b": torch.tensor([[1.5]]), "a": torch.tensor([-2.0, 0.25])}
    assert CODECS["float32"]().encode(sent) == struct.pack("<3f", -2.0, 0.25, 1.5)


def test_float16_bytes() -> None:
    sent = {"b": torch.tensor([[1.5]]), "a": torch.tensor([-2.0, 0.1])}
    assert CODECS["float16"]().encode(sent) == struct.pack("<3e", -2.0, 0.1, 1.5)


def test_int8_bytes() -> None:
    first = torch.zeros(64)
    first[:3] = torch.tensor([127.0, -3.4, 0.6])
    second = torch.tensor([-254.0, 3.0])
    sent = {"x": torch.cat([first, second])}
    whole = struct.pack("<2f", 1.0, 2.0) + struct.pack("<66b", 127, -3, 1, *[0] * 61, -127, 2)
    assert CODECS["int8"]().encode(sent) == whole
    back = CODECS["int8"]().decode(whole, shapes_of(sent))["x"]
    assert back[:3].tolist() == [127.0, -3.0, 1.0]
    assert back[64:].tolist() == [-254.0, 4.0]


def test_int4_bytes() -> None:
    """Two to a byte, the first in the low half, negative ones as two's complement."""
    sent = {"x": torch.tensor([7.0, -3.4, 0.6, -7.0, 2.0])}
    whole = struct.pack("<f3B", 1.0, 0xD7, 0x91, 0x02)
    assert CODECS["int4"]().encode(sent) == whole
    back = CODECS["int4"]().decode(whole, shapes_of(sent))["x"]
    assert back.tolist() == [7.0, -3.0, 1.0, -7.0, 2.0]


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("float32", 4 * 135),
        ("float16", 2 * 135),
        ("int8", 135 + 4 * (1 + 3 + 1)),
        ("int4", 1 + 65 + 2 + 4 * (1 + 3 + 1)),
    ],
)
def test_lengths(name: str, length: int) -> None:
    sent = {"a": torch.ones(1), "b": torch.ones(130), "c": torch.ones(2, 2)}
    assert len(CODECS[name]().encode(sent)) == length


@given(shapes=SHAPES, seed=st.integers(0, 9), name=st.sampled_from([*CODECS]))
def test_decoding_undoes_encoding(shapes: list[tuple[int, ...]], seed: int, name: str) -> None:
    codec, sent = CODECS[name](), tensors_of(shapes, seed)
    data = codec.encode(sent)
    back = codec.decode(data, shapes_of(sent))
    assert back.keys() == sent.keys()
    for key, tensor in sent.items():
        assert back[key].dtype == torch.float32
        assert back[key].shape == tensor.shape
        if name == "float32":
            assert torch.equal(back[key], tensor)
        elif name == "float16":
            assert torch.equal(back[key], tensor.half().float())
    assert codec.encode(back) == data  # what arrived is sent on unchanged


@given(
    shapes=SHAPES,
    clients=st.integers(0, 4),
    seed=st.integers(0, 9),
    name=st.sampled_from([*CODECS]),
)
def test_through_is_client_by_client_encoding(
    shapes: list[tuple[int, ...]], clients: int, seed: int, name: str
) -> None:
    codec = CODECS[name]()
    sent = tensors_of([(clients, *shape) for shape in shapes], seed)
    arrived = codec.through(sent)
    for client in range(clients):
        own = {key: tensor[client] for key, tensor in sent.items()}
        alone = codec.decode(codec.encode(own), shapes_of(own))
        for key in own:
            assert torch.equal(arrived[key][client], alone[key])


@given(**DRAWN)
def test_an_error_is_at_most_half_a_step_of_its_block(
    seed: int, values: int, size: int, codec: Blocks
) -> None:
    sent = {"x": drawn_values(seed, values, size)}
    error = (codec.decode(codec.encode(sent), shapes_of(sent))["x"] - sent["x"]).abs()
    assert (error <= steps(sent["x"], codec) / 2 * (1 + 1e-5)).all()


def test_zeros_arrive_as_zeros(codec: Codec) -> None:
    sent = {"x": torch.zeros(70)}
    assert not codec.decode(codec.encode(sent), shapes_of(sent))["x"].any()


def test_values_too_large_for_half_precision_are_clamped() -> None:
    codec = CODECS["float16"]()
    sent = {"x": torch.tensor([1e6, -1e30, 65504.0, float("inf")])}
    back = codec.decode(codec.encode(sent), shapes_of(sent))["x"]
    assert back.tolist() == [65504.0, -65504.0, 65504.0, 65504.0]


def test_nan_is_not_hidden(codec: Codec) -> None:
    sent = {"x": torch.tensor([1.0, float("nan")])}
    assert codec.decode(codec.encode(sent), shapes_of(sent))["x"].isnan().any()


@pytest.mark.parametrize("codec", NARROW, ids=["int8", "int4"])
@given(seed=st.integers(0, 9), values=st.integers(1, 140))
def test_a_dither_of_a_half_rounds_to_the_nearest(codec: Blocks, seed: int, values: int) -> None:
    """And any dither is off by less than a step, in the bytes themselves."""
    sent = {"x": drawn_values(seed, values, 0)}
    nearest = codec.decode(codec.encode(sent), shapes_of(sent))["x"]
    half = {"x": torch.full((1, values), 0.5)}
    assert torch.equal(codec.decode(codec.encode(sent, half), shapes_of(sent))["x"], nearest)
    drawn = {"x": torch.rand(1, values, generator=torch.Generator().manual_seed(seed))}
    arrived = codec.decode(codec.encode(sent, drawn), shapes_of(sent))["x"]
    assert ((arrived - sent["x"]).abs() <= steps(sent["x"], codec) * (1 + 1e-4)).all()


@pytest.mark.parametrize("cut", [-1, 1, 4])
def test_wrong_length_is_refused(codec: Codec, cut: int) -> None:
    sent = {"x": torch.ones(3, 5)}
    data = codec.encode(sent)
    wrong = data + bytes(cut) if cut > 0 else data[:cut]
    with pytest.raises(MessageError, match=rf"{len(wrong)} bytes, its layout takes {len(data)}"):
        codec.decode(wrong, shapes_of(sent))
