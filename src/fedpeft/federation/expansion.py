"""Privacy-preserving graph expansion (Wu et al. 2022): neighbours without anybody's graph.

Clients agree on a key that the matching server does not hold (a trusted third party hands it out).
A client sends a keyed hash of each of its items, true and pseudo ones alike, and one vector; the
server finds equal hashes and returns, for each, some vectors of others who sent it too.

What each side learns.  The server: how many hashes somebody sent, which hashes are equal, and the
vectors; it cannot tell which item a hash stands for, and pseudo items blur who has what.  That is
less than the graph, but not nothing: how often a hash comes tells how popular its item is.  A
client: vectors of some who have, or pretend to have, one of its items; not whose they are, nor what
else these people have (only that an equal vector on two items is one person's).  Whoever holds the
key and sees the requests learns all items, so server and key must be kept apart.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedpeft.backbones import Backbone, ExpansionConfig, HistoryBackbone
from fedpeft.data.dataset import Histories, Ints, Split
from fedpeft.data.negatives import TrainNegatives
from fedpeft.data.ragged import indptr_of, row_of
from fedpeft.errors import ConfigError, InputError
from fedpeft.losses import Loss
from fedpeft.seeding import numpy_rng

Vectors = NDArray[np.float32]

TOKEN_BYTES = 16
"""Half of SHA-256's output, the shortest that RFC 2104 (section 5) advises."""
COUNT_BYTES = 2
"""What says how many vectors a token brought."""
CHUNK = 1 << 18
"""Vectors looked up at a time in the simulator (32 MiB at k = 32)."""


@dataclass(frozen=True, eq=False)
class ExpansionRequest:
    """What a client sends.

    Attributes
    ----------
    tokens
        Keyed hashes of its items, in the order of the hashes, so that places tell nothing.
    vector
        float32 (k,): its user vector, clipped and noised.
    """

    tokens: tuple[bytes, ...]
    vector: Vectors

    @property
    def nbytes(self) -> int:
        """Bytes that travel."""
        return sum(map(len, self.tokens)) + self.vector.nbytes


@dataclass(frozen=True, eq=False)
class ExpansionReply:
    """What a client gets back.

    Attributes
    ----------
    neighbours
        For each token, in the request's order, float32 (m, k): vectors of m others.
    """

    neighbours: tuple[Vectors, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that travel: the vectors, and for each token their number."""
        return sum(found.nbytes + COUNT_BYTES for found in self.neighbours)


def token(key: bytes, item: int) -> bytes:
    """Return the keyed hash of an item: HMAC-SHA256 of its id, cut to `TOKEN_BYTES`."""
    return hmac.digest(key, str(item).encode(), "sha256")[:TOKEN_BYTES]


def release(vectors: Tensor, config: ExpansionConfig, rng: np.random.Generator) -> Tensor:
    """Return what clients let out of their vectors, float (..., k): clipped, then noised."""
    length = vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    clipped: Tensor = vectors * (config.clip / length).clamp(max=1.0)
    if config.noise == 0:
        return clipped
    noise = rng.standard_normal(tuple(vectors.shape), dtype=np.float32)
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
        """Return the reply to each request.

        Raises
        ------
        InputError
            If a request has a token twice: its sender would be returned as its own neighbour.
        """
        for request in requests:
            if len(set(request.tokens)) < len(request.tokens):
                raise InputError("an expansion request has a token twice; each must be there once")
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
            ExpansionReply(tuple(found[end - length : end]))
            for end, length in zip(ends, lengths.tolist(), strict=True)
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
        self, vector: Tensor, config: ExpansionConfig, rng: np.random.Generator
    ) -> ExpansionRequest:
        """Return the request with a user vector, float (k,)."""
        return ExpansionRequest(self._tokens, release(vector, config, rng).cpu().numpy())

    def receive(self, reply: ExpansionReply) -> Vectors | None:
        """Return the mean over the client's true items of the mean over neighbours, float32 (k,).

        Items without a neighbour do not count; None where no item has any.
        """
        answers = zip(self._tokens, reply.neighbours, strict=True)
        means = [found.mean(0) for token, found in answers if token in self._own and len(found)]
        return np.mean(means, axis=0) if means else None


class Expansion:
    """All clients' expansions at once, for the simulator; equal to sending the messages.

    Parameters
    ----------
    train
        Train histories: held-out items are in no graph.

    Attributes
    ----------
    pseudo
        The pseudo items of each client, outside its train items, in ascending order.
    key
        The clients' key.
    seed
        Names the streams of all it draws.
    """

    def __init__(
        self, train: Histories, n_items: int, config: ExpansionConfig, *, seed: int
    ) -> None:
        self.config = config
        self.seed = seed
        self._train = train
        self.key = numpy_rng(seed, "expansion key").bytes(32)
        self.pseudo = draw_pseudo(train, n_items, config.pseudo, seed)
        # entries stand as requests list them: client after client, each in the order of hashes
        user = np.concatenate([row_of(train.lengths()), row_of(self.pseudo.lengths())])
        tokens = [token(self.key, item) for item in range(n_items)]
        rank = np.empty(n_items, np.int64)
        rank[sorted(range(n_items), key=tokens.__getitem__)] = np.arange(n_items)
        labels = rank[np.concatenate([train.items, self.pseudo.items])]
        order = np.lexsort((labels, user))
        self._labels, self._sender = labels[order], user[order]
        self._own = (np.arange(len(user)) < len(train.items))[order]

    def client(self, user: int) -> ExpansionClient:
        """Return the half of one client, as its own device has it."""
        return ExpansionClient(
            self.key, self._train.of(user).tolist(), self.pseudo.of(user).tolist()
        )

    def run(self, vectors: Tensor, round_number: int) -> tuple[Tensor, int]:
        """Expand every client that has an item.

        Parameters
        ----------
        vectors
            float32 (clients, k): private user vectors.

        Returns
        -------
        Tensor
            float32 (clients, k): each client's mean neighbour; 0 where it has none.
        int
            Bytes in both directions.
        """
        noise = numpy_rng(self.seed, "round", round_number, "expansion noise")
        sent = release(vectors, self.config, noise)
        matching = Matching(self._labels, self.config.neighbours, self.rng(round_number))
        total = torch.zeros_like(sent)
        answered = np.zeros(len(sent))
        vectors_sent = len(np.unique(self._sender))
        for entries in np.array_split(
            np.arange(len(self._labels)), 1 + len(self._labels) * self.config.neighbours // CHUNK
        ):
            seen = matching.of(entries)
            known = seen >= 0
            counts = known.sum(1)
            vectors_sent += int(counts.sum())
            counted = self._own[entries] & (counts > 0)
            answered += np.bincount(self._sender[entries[counted]], minlength=len(sent))
            share = np.repeat(counted / np.maximum(counts, 1), counts)
            total.index_add_(
                0,
                torch.from_numpy(np.repeat(self._sender[entries], counts)).to(sent.device),
                sent[torch.from_numpy(self._sender[seen[known]]).to(sent.device)]
                * torch.from_numpy(share).to(sent).unsqueeze(1),
            )
        mean = total / torch.from_numpy(answered).to(sent).clamp(min=1).unsqueeze(1)
        width = 4 * sent.shape[1]
        return mean, len(self._labels) * (TOKEN_BYTES + COUNT_BYTES) + vectors_sent * width

    def rng(self, round_number: int) -> np.random.Generator:
        """Return the matching server's stream of a round."""
        return numpy_rng(self.seed, "round", round_number, "matching")


def expansion_of(backbone: Backbone, loss: Loss, split: Split, seed: int) -> Expansion | None:
    """Return the graph expansion that a backbone asks for, if any.

    Raises
    ------
    ConfigError
        If uploads are to be masked whose every row moves anyway.
    """
    config = backbone.expansion if isinstance(backbone, HistoryBackbone) else None
    if config is None or config.every == 0:
        return None
    if config.mask_upload and loss.catalogue_weight:
        raise ConfigError(
            "backbone.expansion.mask_upload = true has nothing to hide with a loss over all items, "
            "which moves every row; choose loss.kind softmax, bpr or bce, or set it to false"
        )
    return Expansion(split.train, split.n_items, config, seed=seed)


def draw_pseudo(train: Histories, n_items: int, each: int, seed: int) -> Histories:
    """Draw the items that clients pretend to have: `each` for each train item, less repetitions.

    They lie outside the train items only, like training negatives: leaving held-out items out would
    give them away.
    """
    users = np.arange(train.n_users, dtype=np.int64)
    if each == 0:
        return Histories(np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int64))
    drawn = TrainNegatives(train, n_items).sample(users, each, numpy_rng(seed, "pseudo items"))
    keys = np.unique(row_of(each * train.lengths()) * n_items + drawn.ravel())
    return Histories(indptr_of(np.bincount(keys // n_items, minlength=len(users))), keys % n_items)
