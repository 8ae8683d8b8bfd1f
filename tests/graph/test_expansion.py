"""Graph expansion: the messages, what can be learnt from them, and the simulator's shortcut."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.backbones import ExpansionConfig
from fedpeft.data import Histories
from fedpeft.errors import ConfigError, DataError, InputError
from fedpeft.graph import expansion as module
from fedpeft.graph.expansion import Expansion, draw_pseudo
from fedpeft.graph.matching import (
    TOKEN_BYTES,
    ExpansionClient,
    ExpansionReply,
    ExpansionRequest,
    Matching,
    MatchingServer,
    release,
    token,
)
from fedpeft.testing import hand_split
from toys import made_split, toy

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
PLAIN = ExpansionConfig(clip=1e6, pseudo=0)
N = 30
LENGTHS = [4, 9, 1, 16, 0, 7]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def world(config: ExpansionConfig = PLAIN, seed: int = 0) -> Expansion:
    return Expansion(made_split(LENGTHS, N).train, N, config, seed=seed)


def exchange(
    expansion: Expansion, vectors: torch.Tensor
) -> tuple[list[ExpansionRequest], list[ExpansionReply]]:
    """Send every client's message through a server; return all that crossed the network."""
    users = range(len(vectors))
    requests = [
        expansion.client(user).request(vectors[user], expansion.config, rng()) for user in users
    ]
    server = MatchingServer(expansion.config.neighbours, expansion.rng(7))
    return requests, server.match(requests)


@given(
    lengths=st.lists(st.integers(0, 8), max_size=6),
    limit=st.integers(1, 7),
    pseudo=st.integers(0, 3),
    chunk=st.sampled_from([1, 5, 1 << 18]),
)
@settings(max_examples=40, deadline=None)
def test_the_simulator_does_what_the_messages_do(
    lengths: list[int], limit: int, pseudo: int, chunk: int
) -> None:
    config = ExpansionConfig(neighbours=limit, pseudo=pseudo, clip=0.8)
    expansion = Expansion(made_split(lengths, 9).train, 9, config, seed=3)
    vectors = torch.randn(len(lengths), 4, generator=torch.Generator().manual_seed(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        found, spent = expansion.run(vectors, 7)
    requests, replies = exchange(expansion, vectors)
    assert found.shape == vectors.shape
    for user, reply in enumerate(replies):
        pooled = expansion.client(user).receive(reply)
        expected = np.zeros(4) if pooled is None else pooled
        np.testing.assert_allclose(found[user].numpy(), expected, atol=1e-6)
    sent = [request.nbytes for request in requests if request.tokens]  # others keep quiet
    assert spent == sum(sent) + sum(reply.nbytes for reply in replies)


def test_neighbours_are_the_others_with_the_item() -> None:
    """Every pooled vector, worked out from the histories with a limit above everybody."""
    expansion = world(ExpansionConfig(clip=1e6, pseudo=0, neighbours=50))
    vectors = torch.eye(len(LENGTHS))
    found, _ = expansion.run(vectors, 0)
    rows = [set(made_split(LENGTHS, N).train.of(user).tolist()) for user in range(len(LENGTHS))]
    for user, own in enumerate(rows):
        means = []
        for item in own:
            others = [v for v in range(len(rows)) if v != user and item in rows[v]]
            if others:
                means.append(vectors[others].mean(0))
        expected = torch.stack(means).mean(0) if means else torch.zeros(len(rows))
        torch.testing.assert_close(found[user], expected)
    assert found.any()


@given(
    labels=st.lists(st.integers(0, 4), max_size=25),
    limit=st.integers(1, 6),
    seed=st.integers(0, 5),
)
def test_matching_sees_distinct_others_of_the_same_label(
    labels: list[int], limit: int, seed: int
) -> None:
    array = np.array(labels, np.int64)
    seen = Matching(array, limit, rng(seed)).of(np.arange(len(array)))
    counts = dict.fromkeys(range(len(array)), 0)
    for entry, row in enumerate(seen):
        found = row[row >= 0].tolist()
        assert entry not in found
        assert len(set(found)) == len(found) == min(limit, labels.count(labels[entry]) - 1)
        assert all(labels[other] == labels[entry] for other in found)
        for other in found:
            counts[other] += 1
    assert all(count <= limit for count in counts.values())  # nobody is handed out more often
    renamed = (7 - array) * 11  # other names, in another order
    assert (Matching(renamed, limit, rng(seed)).of(np.arange(len(array))) == seen).all()


def test_matching_draws_uniformly() -> None:
    counts = np.zeros(6)
    for seed in range(600):
        seen = Matching(np.zeros(6, np.int64), 2, rng(seed)).of(np.array([0]))
        counts[seen[0]] += 1
    assert counts[0] == 0
    assert abs(counts[1:] - 240).max() < 60  # five standard deviations


def values(message: Any) -> Iterator[Any]:
    """Yield every value inside a message, however nested."""
    if is_dataclass(message):
        for field in fields(message):
            yield from values(getattr(message, field.name))
    elif isinstance(message, tuple | list | set | frozenset):
        for part in message:
            yield from values(part)
    elif isinstance(message, dict):
        yield from values(list(message.items()))
    else:
        yield message


def test_messages_hold_hashes_and_vectors_and_nothing_else() -> None:
    expansion = world(ExpansionConfig(pseudo=2))
    vectors = torch.randn(len(LENGTHS), 4, generator=torch.Generator().manual_seed(0))
    requests, replies = exchange(expansion, vectors)
    for request in requests:
        assert [f.name for f in fields(request)] == ["tokens", "vector"]
        *tokens, vector = values(request)
        assert all(isinstance(t, bytes) and len(t) == TOKEN_BYTES for t in tokens)
        assert (vector.dtype, vector.shape) == (np.float32, (4,))
    for reply in replies:
        assert [f.name for f in fields(reply)] == ["neighbours"]
        for found in values(reply):
            assert (found.dtype, found.shape[1:]) == (np.float32, (4,))
            assert found.base is None  # no view into what others sent


def test_the_server_cannot_name_an_item() -> None:
    """Without the key the hashes of all items are as good as random."""
    expansion = world(ExpansionConfig(pseudo=1))
    requests, _ = exchange(expansion, torch.zeros(len(LENGTHS), 4))
    sent = {token for request in requests for token in request.tokens}
    assert len(sent) > 10
    for guess in (b"", OTHER_KEY, bytes(32)):
        assert not sent & {token(guess, item) for item in range(N)}
    unkeyed = {hashlib.sha256(str(item).encode()).digest()[:TOKEN_BYTES] for item in range(N)}
    assert not sent & unkeyed
    assert sent <= {token(expansion.key, item) for item in range(N)}  # what the key is kept for


def test_the_server_object_holds_no_key_and_keeps_no_request() -> None:
    server = MatchingServer(3, rng())
    before = set(vars(server))
    client = ExpansionClient(KEY, [1, 2], [5])
    server.match([client.request(torch.ones(2), PLAIN, rng())] * 2)
    assert set(vars(server)) == before == {"_limit", "_rng"}
    assert not any(isinstance(value, bytes) for value in vars(server).values())


def test_equal_histories_look_different_under_another_key() -> None:
    for key in (KEY, OTHER_KEY):
        request = ExpansionClient(key, [3, 1, 2], []).request(torch.ones(2), PLAIN, rng())
        expected = {hmac.digest(key, str(i).encode(), "sha256")[:16] for i in (1, 2, 3)}
        assert set(request.tokens) == expected
    clients = [ExpansionClient(key, [1, 2], []) for key in (KEY, OTHER_KEY)]
    requests = [client.request(torch.ones(2), PLAIN, rng()) for client in clients]
    for reply in MatchingServer(5, rng()).match(requests):
        assert all(len(found) == 0 for found in reply.neighbours)


def test_places_of_tokens_do_not_tell_true_items_from_pseudo_ones() -> None:
    swapped = [ExpansionClient(KEY, [1, 2], [8, 9]), ExpansionClient(KEY, [8, 9], [1, 2])]
    first, second = (client.request(torch.ones(2), PLAIN, rng()) for client in swapped)
    assert first.tokens == second.tokens == tuple(sorted(first.tokens))


def test_a_client_learns_vectors_on_its_own_items_only() -> None:
    """Two strangers' common item shows up nowhere in a third client's reply."""
    rows = [[0, 1], [1, 5], [5, 6], [6]]
    vectors = torch.eye(4)
    clients = [ExpansionClient(KEY, row, []) for row in rows]
    requests = [c.request(v, PLAIN, rng()) for c, v in zip(clients, vectors, strict=True)]
    replies = MatchingServer(5, rng()).match(requests)
    reply = replies[0]
    assert len(reply.neighbours) == len(requests[0].tokens) == 2
    found = {
        token: rows.tolist()
        for token, rows in zip(requests[0].tokens, reply.neighbours, strict=True)
    }
    assert found == {token(KEY, 0): [], token(KEY, 1): [vectors[1].tolist()]}


def test_replies_do_not_depend_on_who_asks_under_which_name() -> None:
    """Senders have no names: shuffled arrivals bring the same neighbours."""
    expansion = world()
    vectors = torch.randn(len(LENGTHS), 4, generator=torch.Generator().manual_seed(0))
    requests = [
        expansion.client(user).request(vectors[user], PLAIN, rng()) for user in range(len(LENGTHS))
    ]
    order = [3, 0, 5, 4, 1, 2]
    straight = MatchingServer(50, rng()).match(requests)
    shuffled = MatchingServer(50, rng()).match([requests[place] for place in order])
    for place, reply in zip(order, shuffled, strict=True):
        for one, two in zip(straight[place].neighbours, reply.neighbours, strict=True):
            assert sorted(map(tuple, one)) == sorted(map(tuple, two))


def test_neighbours_on_pseudo_items_are_thrown_away() -> None:
    clients = [ExpansionClient(KEY, [1], [2]), ExpansionClient(KEY, [2], [])]
    vectors = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]
    requests = [c.request(v, PLAIN, rng()) for c, v in zip(clients, vectors, strict=True)]
    replies = MatchingServer(5, rng()).match(requests)
    assert sum(map(len, replies[0].neighbours)) == 1
    assert clients[0].receive(replies[0]) is None
    assert clients[1].receive(replies[1]).tolist() == [1, 0]  # the pretender counts for others


def test_a_repeated_token_is_refused() -> None:
    request = ExpansionRequest((b"a" * 16, b"a" * 16), np.zeros(2, np.float32))
    with pytest.raises(InputError, match="twice"):
        MatchingServer(1, rng()).match([request])


def test_nobody_asks() -> None:
    assert MatchingServer(1, rng()).match([]) == []
    found, spent = Expansion(hand_split([], 4).train, 4, PLAIN, seed=0).run(torch.zeros(0, 3), 0)
    assert (found.shape, spent) == ((0, 3), 0)


def test_vectors_are_clipped_and_noised_before_they_leave() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    clipped = release(vectors, ExpansionConfig(clip=1.0), rng())
    torch.testing.assert_close(clipped, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    config = ExpansionConfig(clip=2.0, noise=0.5)
    noisy = release(torch.zeros(40_000, 2), config, rng())
    assert abs(float(noisy.std()) - 1.0) < 0.02  # noise x clip
    assert abs(float(noisy.mean())) < 0.02


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
            request = expansion.client(user).request(torch.ones(6), expansion.config, rng())
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
