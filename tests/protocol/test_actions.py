"""Uploads as actions: what clusters are, and that numbers which name none are refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.protocol.actions import ActionsUpload, cluster
from fedpeft.protocol.encodings import CODECS
from fedpeft.protocol.wire import MessageError

SHAPES = {"item.A": torch.Size((11, 3)), "mlp": torch.Size((2, 5))}
NONE = torch.zeros(0, dtype=torch.int64)


def codec(actions: int) -> ActionsUpload:
    return ActionsUpload(CODECS["float32"](), SHAPES, {"item.A"}, actions)


def rows_of(clients: int, rows: int, width: int, moved: float, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    still = torch.rand(clients, rows, 1, generator=rng) >= moved
    return torch.randn(clients, rows, width, generator=rng).masked_fill(still, 0.0)


@settings(deadline=None)
@given(
    clients=st.integers(1, 4),
    rows=st.integers(1, 30),
    width=st.integers(1, 5),
    centres=st.integers(1, 20),
    moved=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 10),
)
def test_clusters(
    clients: int, rows: int, width: int, centres: int, moved: float, seed: int
) -> None:
    change = rows_of(clients, rows, width, moved, seed)
    book, chosen = cluster(change, centres)
    assert book.shape == (clients, centres, width)
    assert torch.equal(chosen == 0, (change == 0).all(-1))
    assert bool((chosen <= centres).all())
    found = torch.cat([torch.zeros(clients, 1, width), book], 1)
    arrived = found[torch.arange(clients).unsqueeze(1), chosen]
    for client in range(clients):
        own = change[client][chosen[client] > 0]
        gaps = torch.cdist(own, book[client]) if len(own) else torch.zeros(0, centres)
        used = gaps.gather(1, (chosen[client][chosen[client] > 0] - 1).unsqueeze(1)).squeeze(1)
        best = gaps.min(1).values if len(own) else used
        # centres that differ by less than rounding are one
        size = float(change[client].norm(dim=-1).max())
        assert float(used.square().sum()) <= 1.5 * float(best.square().sum()) + 1e-3 * size**2
        if len(own) <= centres:
            assert float((arrived[client] - change[client]).abs().max()) <= 0.01 * size
    torch.testing.assert_close(arrived.sum(1), change.sum(1), atol=1e-4, rtol=1e-4)
    # whoever is computed together with others is computed alike
    alone, own_chosen = cluster(change[-1:], centres)
    torch.testing.assert_close(alone[0], book[-1])
    assert torch.equal(own_chosen[0], chosen[-1])


def test_rows_that_point_one_way_keep_most_of_their_length() -> None:
    """As those of one step on a dot-product score do: 15 numbers stand for all of them."""
    rng = torch.Generator().manual_seed(0)
    change = torch.randn(3, 500, 1, generator=rng) * torch.randn(3, 1, 8, generator=rng)
    book, chosen = cluster(change, 15)
    arrived = book[torch.arange(3).unsqueeze(1), chosen - 1]
    lost = (arrived - change).square().sum() / change.square().sum()
    assert float(lost) < 0.02


@pytest.mark.parametrize(("actions", "bits"), [(2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9)])
def test_an_action_takes_whole_bits(actions: int, bits: int) -> None:
    uploads = codec(actions)
    change = {"item.A": rows_of(1, 11, 3, 1.0, 0)[0], "mlp": torch.ones(2, 5)}
    data = uploads.encode(change, NONE, None)
    assert len(data) == uploads.size(0) == -(-11 * bits // 8) + 4 * (3 * (actions - 1) + 10)
    arrived = uploads.decode(data)
    assert torch.equal(arrived["mlp"], change["mlp"])
    if actions > 11:
        torch.testing.assert_close(arrived["item.A"], change["item.A"])


def test_numbers_that_name_no_action_are_refused() -> None:
    uploads = codec(5)
    data = bytearray(uploads.encode({n: torch.ones(s) for n, s in SHAPES.items()}, NONE, None))
    data[0] = 0b111_101
    with pytest.raises(MessageError, match="names action 7, but there are 5"):
        uploads.decode(bytes(data))
    for wrong in (bytes(data[:-1]), bytes(data) + b"\0", b""):
        with pytest.raises(MessageError, match="its layout takes"):
            uploads.decode(wrong)
