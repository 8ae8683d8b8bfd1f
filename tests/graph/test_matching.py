"""Matching: what the messages hold, and what can be learnt from them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.backbones import ExpansionConfig
from fedpeft.graph.expansion import Expansion
from fedpeft.graph.matching import ExpansionClient, Matching, MatchingServer, release, token
from fedpeft.graph.messages import TOKEN_BYTES, ExpansionReply, ExpansionRequest
from fedpeft.protocol.wire import MessageError
from toys import made_split

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
PLAIN = ExpansionConfig(clip=1e6, pseudo=0)
N = 30
LENGTHS = [4, 9, 1, 16, 0, 7]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ask(client: ExpansionClient, vector: torch.Tensor) -> ExpansionRequest:
    """Return a client's request in round 7, without clipping or noise."""
    return client.request(7, vector, PLAIN, None)


def exchange(
    pseudo: int, vectors: torch.Tensor
) -> tuple[Expansion, list[ExpansionRequest], list[ExpansionReply]]:
    """Send every client's message through a server; return all that crossed the network."""
    config = ExpansionConfig(clip=1e6, pseudo=pseudo)
    expansion = Expansion(made_split(LENGTHS, N).train, N, config, seed=0)
    requests = [ask(expansion.client(row), vectors[row]) for row in range(len(vectors))]
    return expansion, requests, MatchingServer(config.neighbours, rng()).match(requests)


def random_vectors() -> torch.Tensor:
    return torch.randn(len(LENGTHS), 4, generator=torch.Generator().manual_seed(0))


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
    """And the number of the round, which everybody knows."""
    _, requests, replies = exchange(2, random_vectors())
    for request in requests:
        assert [f.name for f in fields(request)] == ["round", "tokens", "vector"]
        number, *tokens, vector = values(request)
        assert number == 7
        assert all(isinstance(t, bytes) and len(t) == TOKEN_BYTES for t in tokens)
        assert (vector.dtype, vector.shape) == (np.float32, (4,))
    for reply in replies:
        assert [f.name for f in fields(reply)] == ["round", "dim", "neighbours"]
        assert (reply.round, reply.dim) == (7, 4)
        for found in reply.neighbours:
            assert (found.dtype, found.shape[1:]) == (np.float32, (4,))
            assert found.base is None  # no view into what others sent


def test_the_server_cannot_name_an_item() -> None:
    """Without the key the hashes of all items are as good as random."""
    expansion, requests, _ = exchange(1, torch.zeros(len(LENGTHS), 4))
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
    server.match([ask(client, torch.ones(2))] * 2)
    assert set(vars(server)) == before == {"_limit", "_rng"}
    assert not any(isinstance(value, bytes) for value in vars(server).values())


def test_equal_histories_look_different_under_another_key() -> None:
    for key in (KEY, OTHER_KEY):
        request = ask(ExpansionClient(key, [3, 1, 2], []), torch.ones(2))
        expected = {hmac.digest(key, str(i).encode(), "sha256")[:16] for i in (1, 2, 3)}
        assert set(request.tokens) == expected
    clients = [ExpansionClient(key, [1, 2], []) for key in (KEY, OTHER_KEY)]
    requests = [ask(client, torch.ones(2)) for client in clients]
    for reply in MatchingServer(5, rng()).match(requests):
        assert all(len(found) == 0 for found in reply.neighbours)


def test_places_of_tokens_do_not_tell_true_items_from_pseudo_ones() -> None:
    swapped = [ExpansionClient(KEY, [1, 2], [8, 9]), ExpansionClient(KEY, [8, 9], [1, 2])]
    first, second = (ask(client, torch.ones(2)) for client in swapped)
    assert first.tokens == second.tokens == tuple(sorted(first.tokens))


def test_a_client_learns_vectors_on_its_own_items_only() -> None:
    """Two strangers' common item shows up nowhere in a third client's reply."""
    rows = [[0, 1], [1, 5], [5, 6], [6]]
    vectors = torch.eye(4)
    clients = [ExpansionClient(KEY, row, []) for row in rows]
    requests = [ask(c, v) for c, v in zip(clients, vectors, strict=True)]
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
    _, requests, _ = exchange(0, random_vectors())
    order = [3, 0, 5, 4, 1, 2]
    straight = MatchingServer(50, rng()).match(requests)
    shuffled = MatchingServer(50, rng()).match([requests[place] for place in order])
    for place, reply in zip(order, shuffled, strict=True):
        for one, two in zip(straight[place].neighbours, reply.neighbours, strict=True):
            assert sorted(map(tuple, one)) == sorted(map(tuple, two))


def test_neighbours_on_pseudo_items_are_thrown_away() -> None:
    clients = [ExpansionClient(KEY, [1], [2]), ExpansionClient(KEY, [2], [])]
    vectors = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])]
    requests = [ask(c, v) for c, v in zip(clients, vectors, strict=True)]
    replies = MatchingServer(5, rng()).match(requests)
    assert sum(map(len, replies[0].neighbours)) == 1
    assert clients[0].receive(replies[0]) is None
    assert clients[1].receive(replies[1]).tolist() == [1, 0]  # the pretender counts for others


def test_a_reply_to_another_request_is_refused() -> None:
    client = ExpansionClient(KEY, [1, 2], [])
    for count in (1, 3):
        reply = ExpansionReply(7, 2, (np.ones((1, 2), np.float32),) * count)
        with pytest.raises(MessageError, match=f"answers {count} tokens, but 2 were sent"):
            client.receive(reply)


def test_vectors_of_different_lengths_are_refused() -> None:
    requests = [ask(ExpansionClient(KEY, [1], []), torch.ones(k)) for k in (2, 3)]
    with pytest.raises(MessageError, match="one length"):
        MatchingServer(1, rng()).match(requests)


def test_nobody_asks() -> None:
    assert MatchingServer(1, rng()).match([]) == []


def test_vectors_are_clipped_and_noised_before_they_leave() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    expected = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(release(vectors, ExpansionConfig(clip=1.0), None), expected)
    noise = np.array([[1.0, -2.0], [0.0, 3.0], [4.0, 0.0]], np.float32)
    noisy = release(vectors, ExpansionConfig(clip=1.0, noise=0.25), noise)
    torch.testing.assert_close(noisy, expected + 0.25 * torch.from_numpy(noise))
    wide = release(vectors, ExpansionConfig(clip=2.0, noise=0.25), noise)  # noise x clip
    torch.testing.assert_close(wide[2], torch.tensor([2.0, 0.0]))
    client = ExpansionClient(KEY, [1], [])
    sent = client.request(0, vectors[0], ExpansionConfig(clip=1.0, noise=0.25), noise[0])
    torch.testing.assert_close(torch.from_numpy(sent.vector), noisy[0])
