"""Graph expansion in the simulator: equal to its messages, and without held-out items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.backbones import ExpansionConfig
from fedpeft.data import Histories
from fedpeft.errors import ConfigError, DataError
from fedpeft.graph import expansion as module
from fedpeft.graph.expansion import Expansion, draw_pseudo
from fedpeft.graph.matching import token
from fedpeft.protocol.traffic import Traffic
from fedpeft.testing import hand_split
from toys import made_split, toy

N = 30
LENGTHS = [4, 9, 1, 16, 0, 7]


@given(
    lengths=st.lists(st.integers(0, 8), max_size=6),
    limit=st.integers(1, 7),
    pseudo=st.integers(0, 3),
    chunk=st.sampled_from([1, 5, 1 << 18]),
    noise=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=40, deadline=None)
def test_the_simulator_does_what_the_messages_do(
    lengths: list[int], limit: int, pseudo: int, chunk: int, noise: float
) -> None:
    config = ExpansionConfig(neighbours=limit, pseudo=pseudo, clip=0.8, noise=noise)
    ids = np.arange(len(lengths))[::-1] * 7 + 3
    expansion = Expansion(made_split(lengths, 9).train, 9, config, seed=3, ids=ids)
    vectors = torch.randn(len(lengths), 4, generator=torch.Generator().manual_seed(0))
    counted, sent = Traffic(1), Traffic(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        found = expansion.run(vectors, 7, counted)
    expected = expansion.exchange(vectors, 7, sent)
    assert found.shape == vectors.shape
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert counted.close(0, "adapt", 0, 0, None) == sent.close(0, "adapt", 0, 0, None)


def test_the_bytes_of_an_expansion_by_hand() -> None:
    """A token is 16 bytes, a count 2, a vector of 4 values 16; the heads are 12 and 16."""
    train = hand_split([[0, 1], [1, 2], [], [2]], 5).train
    expansion = Expansion(train, 5, ExpansionConfig(pseudo=0), seed=0)
    traffic = Traffic(4)
    expansion.run(torch.ones(4, 4), 0, traffic)
    entry = traffic.close(0, "adapt", 0, 0, None)
    assert entry.expansion_up == 3 * (12 + 16) + 5 * 16
    assert entry.expansion_down == 3 * 16 + 5 * 2 + 4 * 16  # items 1 and 2, both ways


def test_neighbours_are_the_others_with_the_item() -> None:
    """Every pooled vector, worked out from the histories with a limit above everybody."""
    train = made_split(LENGTHS, N).train
    config = ExpansionConfig(clip=1e6, pseudo=0, neighbours=50)
    vectors = torch.eye(len(LENGTHS))
    found = Expansion(train, N, config, seed=0).run(vectors, 0, Traffic(1))
    rows = [set(train.of(user).tolist()) for user in range(len(LENGTHS))]
    for user, own in enumerate(rows):
        means = []
        for item in own:
            others = [v for v in range(len(rows)) if v != user and item in rows[v]]
            if others:
                means.append(vectors[others].mean(0))
        expected = torch.stack(means).mean(0) if means else torch.zeros(len(rows))
        torch.testing.assert_close(found[user], expected)
    assert found.any()


def test_nobody_asks() -> None:
    expansion = Expansion(hand_split([], 4).train, 4, ExpansionConfig(pseudo=0), seed=0)
    traffic = Traffic(1)
    for way in (expansion.run, expansion.exchange):
        assert way(torch.zeros(0, 3), 0, traffic).shape == (0, 3)
    assert traffic.close(0, "adapt", 0, 0, None).bytes_per_client == 0


def test_noise_is_a_clients_own_and_new_in_each_round() -> None:
    def noise(ids: list[int], rows: list[int], number: int, seed: int = 0) -> np.ndarray:
        train = hand_split([[0]] * len(ids), 4).train
        config = ExpansionConfig(noise=0.5)
        expansion = Expansion(train, 4, config, seed=seed, ids=np.array(ids))
        drawn = expansion.noise(np.array(rows), 500, number)
        assert drawn is not None
        return drawn

    one, two = noise([5, 9], [0, 1], 3)
    assert np.array_equal(noise([9], [0], 3)[0], two)  # wherever it stands
    assert not np.array_equal(one, two)
    assert not np.array_equal(noise([5, 9], [0], 4)[0], one)
    assert not np.array_equal(noise([5, 9], [0], 3, seed=1)[0], one)
    assert abs(float(one.std()) - 1) < 0.15
    silent = Expansion(hand_split([[0]], 4).train, 4, ExpansionConfig(), seed=0)
    assert silent.noise(np.array([0]), 3, 0) is None


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_run_expands_alike_in_every_backend(noise: float) -> None:
    expansion = {"every": 2, "clip": 0.5, "noise": noise}
    run = replace(toy("full", "ials"), backbone=("fedpergnn", {"expansion": expansion}))
    sent, counted = run.simulation("sequential"), run.simulation("fused")
    for number in range(4):
        one, two = sent.step().entry, counted.step().entry
        assert one == two
        assert bool(one.expansion_up) == bool(one.expansion_down) == (number == 2)
    neighbours = [s.population.local["neighbours"] for s in (sent, counted)]
    assert neighbours[0].any()
    torch.testing.assert_close(*neighbours, atol=1e-4, rtol=1e-4)


def test_pseudo_items_lie_outside_the_train_items_and_stay_the_same() -> None:
    train = made_split(LENGTHS, N).train
    pseudo = draw_pseudo(train, N, 3, seed=0)
    for user, length in enumerate(LENGTHS):
        own = pseudo.of(user).tolist()
        assert len(set(own)) == len(own) <= 3 * length
        assert not set(own) & set(train.of(user).tolist())
        assert length < 4 or own
    again = draw_pseudo(train, N, 3, seed=0)
    assert np.array_equal(again.items, pseudo.items)
    assert not np.array_equal(draw_pseudo(train, N, 3, seed=1).items, pseudo.items)
    last = Histories(np.array([0, LENGTHS[-1]]), train.of(len(LENGTHS) - 1))
    alone = draw_pseudo(last, N, 3, seed=0, ids=np.array([len(LENGTHS) - 1]))
    assert np.array_equal(alone.items, pseudo.of(len(LENGTHS) - 1))  # a device draws its own


def test_held_out_items_are_in_no_message() -> None:
    """What a run's own clients send: their train items and, beside them, pseudo items."""
    rows, held = [[0, 3], [5, 1, 2], [4, 0, 1], [2]], [6, 7, 8, 0]
    split = hand_split(rows, 9, validation=held, test=held[1:] + held[:1])
    for pseudo in (0, 2):
        settings = {"expansion": {"every": 1, "pseudo": pseudo}}
        run = replace(toy("full", "ials"), split=split, backbone=("fedpergnn", settings))
        expansion = run.simulation().expansion
        assert expansion is not None
        for user, row in enumerate(rows):
            request = expansion.client(user).request(1, torch.ones(6), expansion.config, None)
            own = {token(expansion.key, item) for item in row}
            pretended = {token(expansion.key, int(item)) for item in expansion.pseudo.of(user)}
            assert set(request.tokens) == own | pretended
            assert bool(pretended) == bool(pseudo)  # drawn without a look at held-out items


def test_held_out_items_may_be_pseudo_items() -> None:
    """Leaving them out would give them away: what a user never pretends to have would be it."""
    train = Histories(np.arange(401), np.zeros(400, np.int64))
    assert set(draw_pseudo(train, 3, 2, seed=0).items.tolist()) == {1, 2}


def test_whoever_has_everything_cannot_pretend() -> None:
    with pytest.raises(DataError, match="all 2 items"):
        draw_pseudo(Histories(np.array([0, 2]), np.array([0, 1])), 2, 1, seed=0)


def test_masking_needs_rows_that_do_not_move() -> None:
    masked = ("fedpergnn", {"expansion": {"mask_upload": True}})
    run = replace(toy("full", "ials"), backbone=masked)
    with pytest.raises(ConfigError, match="mask_upload"):
        run.simulation()
