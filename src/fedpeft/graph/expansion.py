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
from fedpeft.data.dataset import Histories, Split
from fedpeft.data.negatives import TrainNegatives
from fedpeft.data.ragged import indptr_of, row_of
from fedpeft.errors import ConfigError
from fedpeft.graph.matching import (
    COUNT_BYTES,
    TOKEN_BYTES,
    ExpansionClient,
    Matching,
    release,
    token,
)
from fedpeft.losses import Loss
from fedpeft.seeding import numpy_rng

CHUNK = 1 << 18
"""Vectors looked up at a time in the simulator (32 MiB at k = 32)."""


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
            float32 (clients, k): local user vectors.

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
    if config.mask_upload and loss.unobserved_weight:
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
