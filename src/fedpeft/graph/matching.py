"""Graph expansion: what a client makes of its messages, and the server that matches them.

`fedpeft.graph.expansion` says what each side learns.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from fedpeft.backbones import ExpansionConfig
from fedpeft.data.dataset import Ints
from fedpeft.data.ragged import row_of
from fedpeft.graph.messages import TOKEN_BYTES, ExpansionReply, ExpansionRequest, Vectors
from fedpeft.protocol.wire import MessageError


def token(key: bytes, item: int) -> bytes:
    """Return the keyed hash of an item: HMAC-SHA256 of its id, cut to `TOKEN_BYTES`."""
    return hmac.digest(key, str(item).encode(), "sha256")[:TOKEN_BYTES]


def release(vectors: Tensor, config: ExpansionConfig, noise: Vectors | None) -> Tensor:
    """Return what clients let out of their vectors, float (..., k): clipped, then noised.

    `noise` holds standard normal values of the same shape; None where `config.noise` is 0.
    """
    length = vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    clipped: Tensor = vectors * (config.clip / length).clamp(max=1.0)
    if noise is None:
        return clipped
    return clipped.add(torch.from_numpy(noise).to(clipped), alpha=config.noise * config.clip)


class Matching:
    """Who sees whom among entries of equal label: each sees up to `limit` others.

    The entries of a label stand in a ring in random order, and each sees those that follow it.  So
    who is seen is uniform, nobody is seen more than `limit` times for a label, and what is found
    depends on which labels are equal, not on what they are.

    Parameters
    ----------
    labels
        int64 (T,).
    """

    def __init__(self, labels: Ints, limit: int, rng: np.random.Generator) -> None:
        self._limit = limit
        self._order = np.lexsort((rng.random(len(labels)), labels))
        self._place = np.empty_like(self._order)
        self._place[self._order] = np.arange(len(labels))
        _, sizes = np.unique(labels, return_counts=True)
        self._size = np.repeat(sizes, sizes)
        self._start = np.repeat(np.cumsum(sizes) - sizes, sizes)

    def of(self, entries: Ints) -> Ints:
        """Return the entries that each of `entries`, (e,), sees, int64 (e, limit), -1 padded."""
        place = self._place[entries, None]
        start, size = self._start[place], self._size[place]
        shift = np.arange(1, self._limit + 1)
        seen: Ints = np.where(shift < size, self._order[start + (place - start + shift) % size], -1)
        return seen


class MatchingServer:
    """Finds equal tokens.  It holds no key, no item and no name, only what requests bring.

    Parameters
    ----------
    limit
        Vectors returned per token, at most.
    rng
        Draws which.
    """

    def __init__(self, limit: int, rng: np.random.Generator) -> None:
        self._limit = limit
        self._rng = rng

    def match(self, requests: Sequence[ExpansionRequest]) -> list[ExpansionReply]:
        """Return the reply to each request; all are of one round, with vectors of one length.

        Raises
        ------
        MessageError
            If the vectors differ in length.
        """
        if len({(request.round, len(request.vector)) for request in requests}) > 1:
            raise MessageError("expansion requests must be of one round and of one length")
        sent = [token for request in requests for token in request.tokens]
        number = {token: place for place, token in enumerate(sorted(set(sent)))}
        labels = np.array([number[token] for token in sent], np.int64)
        lengths = np.array([len(request.tokens) for request in requests], np.int64)
        sender = row_of(lengths)
        seen = Matching(labels, self._limit, self._rng).of(np.arange(len(sent)))
        vectors = np.stack([request.vector for request in requests]) if requests else seen
        found = [vectors[sender[row[row >= 0]]] for row in seen]
        ends = np.cumsum(lengths).tolist()
        return [
            ExpansionReply(r.round, len(r.vector), tuple(found[end - length : end]))
            for r, end, length in zip(requests, ends, lengths.tolist(), strict=True)
        ]


class ExpansionClient:
    """One client's half: what it asks, and what it makes of the reply.

    Parameters
    ----------
    key
        The clients' common key.
    items, pseudo
        Its train items, and those it pretends to have, without any in common.
    """

    def __init__(self, key: bytes, items: Iterable[int], pseudo: Iterable[int]) -> None:
        self._own = {token(key, item) for item in items}
        self._tokens = tuple(sorted(self._own | {token(key, item) for item in pseudo}))

    def request(
        self, round_number: int, vector: Tensor, config: ExpansionConfig, noise: Vectors | None
    ) -> ExpansionRequest:
        """Return the request with a user vector, float (k,); `noise` as for `release`."""
        sent = release(vector, config, noise).cpu().numpy()
        return ExpansionRequest(round_number, self._tokens, sent)

    def receive(self, reply: ExpansionReply) -> Vectors | None:
        """Return the mean over the client's true items of the mean over neighbours, float32 (k,).

        Items without a neighbour do not count; None where no item has any.

        Raises
        ------
        MessageError
            If the reply does not answer each token of the request.
        """
        if len(reply.neighbours) != len(self._tokens):
            raise MessageError(
                f"ExpansionReply: it answers {len(reply.neighbours)} tokens, "
                f"but {len(self._tokens)} were sent"
            )
        answers = zip(self._tokens, reply.neighbours, strict=True)
        means = [found.mean(0) for token, found in answers if token in self._own and len(found)]
        if not means:
            return None
        with np.errstate(over="ignore"):
            mean: Vectors = np.mean(means, axis=0)
        if not np.isfinite(mean).all():
            raise MessageError("ExpansionReply: the mean of its vectors is not finite")
        return mean
