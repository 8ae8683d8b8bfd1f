"""Layouts of uploads: what they say, what they cost, what they refuse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.errors import ConfigError
from fedpeft.protocol.aggregate import Partial, combine
from fedpeft.protocol.encodings import CODECS
from fedpeft.protocol.layout import UploadCodec
from fedpeft.protocol.uploads import FORMS, upload_codec
from fedpeft.protocol.wire import MessageError

SHAPES = {"item.A": torch.Size((9, 3)), "item.B": torch.Size((3, 70))}
INDEXED = {"item.A"}
NONE = torch.zeros(0, dtype=torch.int64)


def codec(form: str, encoding: str = "float32") -> UploadCodec:
    return upload_codec(form, CODECS[encoding](), SHAPES, INDEXED, 12)  # type: ignore[arg-type]


def change(rows: torch.Tensor, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a change of rank one in each matrix, of which A moves in these rows alone."""
    rng = torch.Generator().manual_seed(seed)
    factors = {n: [torch.randn(size, generator=rng) for size in s] for n, s in SHAPES.items()}
    moved = {name: torch.outer(*pair) for name, pair in factors.items()}
    still = torch.ones(9, dtype=torch.bool)
    still[rows] = False
    moved["item.A"][still] = 0
    return moved


@settings(deadline=None)
@given(
    form=st.sampled_from([*FORMS]),
    encoding=st.sampled_from([*CODECS]),
    rows=st.sets(st.integers(0, 8)).map(sorted),
    seed=st.integers(0, 20),
)
def test_decoding_undoes_encoding(form: str, encoding: str, rows: list[int], seed: int) -> None:
    uploads, touched = codec(form, encoding), torch.tensor(rows, dtype=torch.int64)
    sent = change(touched, seed)
    data = uploads.encode(sent, touched, None)
    assert len(data) == uploads.size(len(rows))
    arrived = uploads.decode(data)
    tolerance = {"float32": 1e-6, "float16": 2e-3, "int8": 1.5e-2, "int4": 0.3}[encoding]
    for name, tensor in sent.items():
        assert arrived[name].shape == tensor.shape
        gap = (arrived[name] - tensor).abs().max()
        assert float(gap) <= tolerance * float(tensor.abs().max())
    if form == "rows":
        still = torch.ones(9, dtype=torch.bool)
        still[touched] = False
        assert not arrived["item.A"][still].any()


def test_lengths() -> None:
    """A full table of 4,344 x 32 by a client that touches ten items, and rank one of ml-1m's."""
    shapes = {"item.weight": torch.Size((4344, 32))}
    rows = upload_codec("rows", CODECS["float32"](), shapes, {"item.weight"}, 2)
    assert rows.size(10) == 4 + 10 * (4 + 4 * 32)
    table = {"item.weight": torch.Size((3706, 32))}
    rank_one = upload_codec("rank_one", CODECS["float32"](), table, set(), 2)
    assert rank_one.size(0) == 4 * (3706 + 32)
    actions = upload_codec("actions", CODECS["float32"](), table, {"item.weight"}, 16)
    assert actions.size(0) == 3706 // 2 + 15 * 4 * 32


def test_rank_one_spells_out_the_user_vector() -> None:
    """The documentation warns of it: the row is the user vector, up to its length."""
    user, off = torch.randn(70), torch.randn(3)
    shapes = {"item.weight": torch.Size((3, 70))}
    uploads = upload_codec("rank_one", CODECS["float32"](), shapes, set(), 2)
    data = uploads.encode({"item.weight": torch.outer(off, user)}, NONE, None)
    told = torch.frombuffer(bytearray(data), dtype=torch.float32)[3:]
    assert abs(float(torch.cosine_similarity(told, user, dim=0))) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("form", FORMS)
def test_nan_is_not_hidden(form: str, encoding: str) -> None:
    nothing = {name: torch.full(shape, torch.nan) for name, shape in SHAPES.items()}
    uploads = codec(form, encoding)
    arrived = uploads.decode(uploads.encode(nothing, torch.arange(9), None))
    assert all(tensor.isnan().all() for tensor in arrived.values())


@settings(deadline=None, max_examples=200)
@given(
    form=st.sampled_from([*FORMS]),
    encoding=st.sampled_from([*CODECS]),
    data=st.binary(max_size=700),
)
def test_rubbish_is_read_in_shape_or_refused(form: str, encoding: str, data: bytes) -> None:
    try:
        arrived = codec(form, encoding).decode(data)
    except MessageError:
        return
    assert {name: tensor.shape for name, tensor in arrived.items()} == SHAPES


def test_row_ids_must_ascend_and_exist() -> None:
    uploads = codec("rows")
    data = bytearray(uploads.encode(change(torch.tensor([2, 5])), torch.tensor([2, 5]), None))
    for ids in ([5, 2], [2, 2], [2, 9]):
        data[4:12] = torch.tensor(ids, dtype=torch.int32).numpy().tobytes()
        with pytest.raises(MessageError, match="do not ascend below 9"):
            uploads.decode(bytes(data))
    data[:4] = b"\xff\xff\xff\xff"
    with pytest.raises(MessageError, match="do not hold the 4294967295 rows"):
        uploads.decode(bytes(data))


def test_forms_that_a_payload_does_not_allow_are_refused() -> None:
    with pytest.raises(ConfigError, match="no tensor with one row per item"):
        upload_codec("rows", CODECS["float32"](), SHAPES, set(), 2)
    with pytest.raises(ConfigError, match="no tensor with one row per item"):
        upload_codec("actions", CODECS["float32"](), SHAPES, set(), 2)
    with pytest.raises(ConfigError, match="bias has 1 dimensions"):
        upload_codec("rank_one", CODECS["float32"](), {"bias": torch.Size((3,))}, set(), 2)


def partial_of(seed: int) -> Partial:
    rng = torch.Generator().manual_seed(seed)
    return Partial({"x": torch.randn(5, generator=rng) * 1e3}, seed + 0.5, seed, 1, 2.0 * seed)


def test_partial_sums_are_combined_from_left_to_right() -> None:
    one, two, three = (partial_of(seed) for seed in range(3))
    found = combine([one, two, three])
    assert torch.equal(found.sum["x"], (one.sum["x"] + two.sum["x"]) + three.sum["x"])
    assert (found.weight, found.clients, found.rejected, found.loss_sum) == (4.5, 3, 3, 6.0)
    assert found.loss == 6.0 / 4.5
    with pytest.raises(ValueError, match="no partial sum"):
        combine([])


def test_the_sum_of_nobody() -> None:
    nobody, one = Partial.empty({"x": torch.ones(5)}), partial_of(1)
    assert nobody.loss == 0
    assert torch.equal((nobody + one).sum["x"], one.sum["x"])
