"""Values on the wire: exact bytes, exact values, bounded errors, nothing lost for good."""

from __future__ import annotations

import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.errors import ArtifactError
from fedpeft.protocol.encodings import (
    CODECS,
    Blocks,
    Codec,
    ErrorFeedback,
    Int4,
    Int8,
)
from toys import toy

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


@pytest.mark.parametrize("cut", [-1, 1, 4])
def test_wrong_length_is_refused(codec: Codec, cut: int) -> None:
    sent = {"x": torch.ones(3, 5)}
    data = codec.encode(sent)
    wrong = data + bytes(cut) if cut > 0 else data[:cut]
    with pytest.raises(ArtifactError, match=rf"{len(wrong)} bytes, its layout takes {len(data)}"):
        codec.decode(wrong, shapes_of(sent))


@settings(deadline=None)
@given(seed=st.integers(0, 99), rounds=st.integers(1, 30), codec=st.sampled_from(NARROW))
def test_error_feedback_keeps_the_sum(seed: int, rounds: int, codec: Blocks) -> None:
    """What was sent so far is what was meant so far, but for one message's rounding."""
    rng = torch.Generator().manual_seed(seed)
    feedback = ErrorFeedback(codec)
    meant, arrived = torch.zeros(70), torch.zeros(70)
    for _ in range(rounds):
        message = torch.randn(70, generator=rng)
        meant += message
        arrived += feedback.send({"x": message})["x"]
        torch.testing.assert_close(arrived + feedback.residual["x"], meant, atol=1e-4, rtol=0)
    assert (
        float((arrived - meant).abs().max()) <= 6 / codec.most
    )  # half a step of a 6-sigma block, twice


def test_without_feedback_small_values_are_lost_for_good() -> None:
    """A value under half a step never arrives on its own; with feedback it does, in the mean."""
    message = torch.tensor([127.0, 0.3])
    assert Int8().through({"x": message.unsqueeze(0)})["x"][0, 1] == 0
    feedback = ErrorFeedback(Int8())
    total = sum(feedback.send({"x": message})["x"] for _ in range(100))
    assert float(total[1]) == pytest.approx(30, abs=0.51)
    feedback.reset()
    assert feedback.residual == {}


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("adapter", ["full", "lora", "rq"])
def test_clients_train_on_what_arrived(adapter: str, encoding: str) -> None:
    """The broadcast goes through the codec, and the server's own tensors come back untouched."""
    simulation = toy(adapter, encoding=encoding).simulation()
    for _ in range(2):
        simulation.step()
    server = simulation.server
    own = {name: tensor.detach().clone() for name, tensor in server.parameters().items()}
    codec = CODECS[encoding]()
    with server.as_received(final=True):
        arrived = {name: t.detach().clone() for name, t in server.parameters().items()}
    expected = codec.decode(codec.encode(own), shapes_of(own))
    for name, tensor in server.parameters().items():
        assert torch.equal(arrived[name], expected[name])
        assert torch.equal(tensor, own[name])
    with pytest.raises(RuntimeError, match="inside"), server.as_received():
        raise RuntimeError("inside")
    assert all(torch.equal(t, own[name]) for name, t in server.parameters().items())


@pytest.mark.parametrize(("encoding", "bound"), [("float16", 0.2), ("int8", 0.2), ("int4", 0.5)])
def test_encoded_training_stays_close_to_exact_training(encoding: str, bound: float) -> None:
    vectors = {}
    for name in ("float32", encoding):
        simulation = toy("lora", encoding=name, cohort=1.0).simulation()
        for _ in range(8):
            simulation.step()
        vectors[name] = simulation.item_vectors()
    moved = (vectors["float32"] - simulation.server.item.base).norm()
    assert 0 < (vectors[encoding] - vectors["float32"]).norm() < bound * moved
