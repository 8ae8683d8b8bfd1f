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

import numpy as np
import torch
from torch import Tensor

from fedpeft.backbones import Backbone, ExpansionConfig, HistoryBackbone
from fedpeft.data.dataset import Histories, Ints
from fedpeft.data.negatives import TrainNegatives
from fedpeft.data.ragged import indptr_of, row_of
from fedpeft.errors import ConfigError
from fedpeft.graph.matching import ExpansionClient, Matching, MatchingServer, release, token
from fedpeft.graph.messages import (
    COUNT_BYTES,
    TOKEN_BYTES,
    ExpansionReply,
    ExpansionRequest,
    Vectors,
)
from fedpeft.losses import Loss
from fedpeft.protocol.traffic import Listener
from fedpeft.seeding import numpy_rng
from fedpeft.streams import ClientStream

CHUNK = 1 << 18
"""Vectors looked up at a time in the simulator (32 MiB at k = 32)."""


class Expansion:
    """All clients' expansions at once, for the simulator; equal to sending the messages.

    Parameters
    ----------
    train
        Train histories: held-out items are in no graph.
    ids
        int64 (clients,): numbers that name the clients' streams; None: their rows.

    Attributes
    ----------
    pseudo
        The pseudo items of each client, outside its train items, in ascending order.
    key
        The clients' key.
    seed
        Names the streams of all it draws.
    ids
        The numbers that name the clients' streams.
    """

    def __init__(
        self,
        train: Histories,
        n_items: int,
        config: ExpansionConfig,
        *,
        seed: int,
        ids: Ints | None = None,
    ) -> None:
        self.config = config
        self.seed = seed
        self._train = train
        self.ids: Ints = np.arange(train.n_users, dtype=np.int64) if ids is None else ids
        self.key = numpy_rng(seed, "expansion key").bytes(32)
        self.pseudo = draw_pseudo(train, n_items, config.pseudo, seed, self.ids)
        # entries stand as requests list them: client after client, each in the order of hashes
        user = np.concatenate([row_of(train.lengths()), row_of(self.pseudo.lengths())])
        tokens = [token(self.key, item) for item in range(n_items)]
        rank = np.empty(n_items, np.int64)
        rank[sorted(range(n_items), key=tokens.__getitem__)] = np.arange(n_items)
        labels = rank[np.concatenate([train.items, self.pseudo.items])]
        order = np.lexsort((labels, user))
        self._labels, self._sender = labels[order], user[order]
        self._own = (np.arange(len(user)) < len(train.items))[order]

    def client(self, row: int) -> ExpansionClient:
        """Return the half of one client, as its own device has it."""
        return ExpansionClient(self.key, self._train.of(row).tolist(), self.pseudo.of(row).tolist())

    def noise(self, rows: Ints, dim: int, round_number: int) -> Vectors | None:
        """Return the noise that clients add to their vectors, float32 (c, k), if they add any."""
        if self.config.noise == 0:
            return None
        stream = ClientStream(self.seed, "round", round_number, "expansion noise")
        return stream.normal(self.ids[rows], dim)

    def asking(self) -> Ints:
        """Return the rows of the clients that have an item, and so ask for neighbours, int64."""
        return np.unique(self._sender)

    def exchange(self, vectors: Tensor, round_number: int, traffic: Listener) -> Tensor:
        """Expand every client that has an item, message by message; see `run`."""
        rows, sent = self.asking(), []
        noise = self.noise(rows, vectors.shape[1], round_number)
        for place, row in enumerate(rows.tolist()):
            own = None if noise is None else noise[place]
            request = self.client(row).request(round_number, vectors[row], self.config, own)
            sent.append(request.to_bytes())
            traffic.sent("expansion_up", len(sent[-1]))
        server = MatchingServer(self.config.neighbours, self.rng(round_number))
        replies = server.match([ExpansionRequest.from_bytes(data) for data in sent])
        mean = torch.zeros_like(vectors)
        for row, reply in zip(rows.tolist(), replies, strict=True):
            data = reply.to_bytes()
            traffic.sent("expansion_down", len(data))
            found = self.client(row).receive(ExpansionReply.from_bytes(data))
            if found is not None:
                mean[row] = torch.from_numpy(found)
        return mean

    def run(self, vectors: Tensor, round_number: int, traffic: Listener) -> Tensor:
        """Expand every client that has an item; equal to `exchange`, without the messages.

        Parameters
        ----------
        vectors
            float32 (clients, k): local user vectors.
        traffic
            Is told the exact lengths of the requests and replies.

        Returns
        -------
        Tensor
            float32 (clients, k): each client's mean neighbour; 0 where it has none.
        """
        everyone = np.arange(len(vectors))
        sent = release(vectors, self.config, self.noise(everyone, vectors.shape[1], round_number))
        matching = Matching(self._labels, self.config.neighbours, self.rng(round_number))
        total = torch.zeros_like(sent)
        answered = np.zeros(len(sent))
        returned = 0
        for entries in np.array_split(
            np.arange(len(self._labels)), 1 + len(self._labels) * self.config.neighbours // CHUNK
        ):
            seen = matching.of(entries)
            known = seen >= 0
            counts = known.sum(1)
            returned += int(counts.sum())
            counted = self._own[entries] & (counts > 0)
            answered += np.bincount(self._sender[entries[counted]], minlength=len(sent))
            share = np.repeat(counted / np.maximum(counts, 1), counts)
            total.index_add_(
                0,
                torch.from_numpy(np.repeat(self._sender[entries], counts)).to(sent.device),
                sent[torch.from_numpy(self._sender[seen[known]]).to(sent.device)]
                * torch.from_numpy(share).to(sent).unsqueeze(1),
            )
        clients, width = len(self.asking()), 4 * sent.shape[1]
        asked = TOKEN_BYTES * len(self._labels) + width * clients
        told = COUNT_BYTES * len(self._labels) + width * returned
        traffic.sent("expansion_up", clients * ExpansionRequest.size(0) + asked)
        traffic.sent("expansion_down", clients * ExpansionReply.size(0) + told)
        return total / torch.from_numpy(answered).to(sent).clamp(min=1).unsqueeze(1)

    def rng(self, round_number: int) -> np.random.Generator:
        """Return the matching server's stream of a round."""
        return numpy_rng(self.seed, "round", round_number, "matching")


def expansion_of(
    backbone: Backbone, loss: Loss, train: Histories, n_items: int, seed: int
) -> Expansion | None:
    """Return the graph expansion that a backbone asks for, if any.

    Raises
    ------
    ConfigError
        If uploads are to be masked whose every row moves anyway.
    """
    config = backbone.expansion if isinstance(backbone, HistoryBackbone) else None
    if config is None or config.every == 0:
        return None
    if config.mask_upload and loss.unobserved_weight:
        raise ConfigError(
            "backbone.expansion.mask_upload = true has nothing to hide with a loss over all items, "
            "which moves every row; choose loss.kind softmax, bpr or bce, or set it to false"
        )
    return Expansion(train, n_items, config, seed=seed)


def draw_pseudo(
    train: Histories, n_items: int, each: int, seed: int, ids: Ints | None = None
) -> Histories:
    """Draw the items that clients pretend to have: `each` for each train item, less repetitions.

    They lie outside the train items only, like training negatives: leaving held-out items out would
    give them away.
    """
    users = np.arange(train.n_users, dtype=np.int64)
    if each == 0:
        return Histories(np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int64))
    stream = ClientStream(seed, "pseudo items")
    drawn = TrainNegatives(train, n_items).sample(users, each, stream, ids)
    keys = np.unique(row_of(each * train.lengths()) * n_items + drawn.ravel())
    return Histories(indptr_of(np.bincount(keys // n_items, minlength=len(users))), keys % n_items)
