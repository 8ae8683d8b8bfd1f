"""Pseudo-interacted items hide which rows of an upload a client touched (Wu et al. 2022)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedpeft.adapters import ItemEmbedding
from fedpeft.data.dataset import Histories, Ints
from fedpeft.graph.expansion import Expansion
from fedpeft.seeding import numpy_rng
from fedpeft.tensors import Tensors
from fedpeft.transforms import UpdateTransform


class PseudoRows(UpdateTransform):
    """The transform that gives untouched rows of pseudo items a change like that of touched ones.

    In tensors with one row per item the server sees which rows moved.  Each client therefore moves
    the rows of its pseudo items by Gaussian values with the mean and the spread of its own touched
    rows, this way or the opposite one at random; so in the mean they stay, as noise.  Tensors whose
    rows many items share (hash rows, codebooks) are left alone.

    Parameters
    ----------
    pseudo
        The pseudo items of each client, by row.
    ids
        int64 (clients,): the numbers that name the clients' streams.

    Notes
    -----
    It hides *which* items, not *how* they moved: somebody who knows how a loss moves positives can
    still tell some apart.  Only noise with a privacy guarantee goes further.
    """

    dense = True

    def __init__(self, pseudo: Histories, ids: Ints, *, seed: int) -> None:
        self._pseudo, self._seed = pseudo, seed
        self._rows = {int(client): row for row, client in enumerate(ids)}

    def begin(self, round_number: int, item: ItemEmbedding) -> None:
        """Begin a round, in which an item embedding travels."""
        self._round = round_number
        self._names = sorted(f"item.{name}" for name in item.item_indexed)

    def on_user(self, change: Tensors, ids: Tensor) -> Tensors:
        """Return the stacked changes with the rows of pseudo items moved."""
        return change | {n: self._masked(n, change[n], ids) for n in self._names}

    def _masked(self, name: str, delta: Tensor, ids: Tensor) -> Tensor:
        """Return changes of one tensor, float (C, n, width), with pseudo rows moved."""
        touched = delta.any(-1)
        counts = touched.sum(1).clamp(min=1).unsqueeze(-1)
        mean = delta.sum(1) / counts
        spread = ((delta - mean.unsqueeze(1)).square() * touched.unsqueeze(-1)).sum(1) / counts
        masked = delta.clone()
        for row, client in enumerate(ids.tolist()):
            items = torch.from_numpy(self._pseudo.of(self._rows[client])).to(delta.device)
            rng = numpy_rng(self._seed, "round", self._round, "pseudo rows", name, client)
            noise = rng.standard_normal((len(items), delta.shape[-1]), dtype=np.float32)
            sign = rng.choice(np.array([-1, 1], np.float32), (len(items), 1))
            moved = mean[row] + spread[row].sqrt() * torch.from_numpy(noise).to(delta)
            moved *= torch.from_numpy(sign).to(delta)
            items, moved = items[~touched[row, items]], moved[~touched[row, items]]
            masked[row, items] = moved
        return masked


def mask_of(expansion: Expansion | None) -> list[UpdateTransform]:
    """Return the transform that masks uploads with an expansion's pseudo items, if asked for."""
    if expansion is None or not expansion.config.mask_upload:
        return []
    return [PseudoRows(expansion.pseudo, expansion.ids, seed=expansion.seed)]
