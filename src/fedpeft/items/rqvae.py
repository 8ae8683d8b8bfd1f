"""Semantic codes: a residual-quantised variational autoencoder over item vectors.

RQ-VAE after Lee et al. 2022 (https://arxiv.org/abs/2203.01941), as TIGER uses it for item text
(https://arxiv.org/abs/2305.05065).  Codebooks follow the latents as exponential moving averages
(van den Oord et al. 2017, appendix A), the encoder learns through the rotation trick (Fifty et al.
2024, https://arxiv.org/abs/2410.06424).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedpeft.items.autoencoder import informative_scaling, unexplained
from fedpeft.items.config import ItemsConfig
from fedpeft.items.linear import linear_autoencoder
from fedpeft.items.networks import Progress, train
from fedpeft.items.projection import Network
from fedpeft.items.quantise import (
    FIT_ROWS_PER_CODE,
    cluster_sums,
    describe_codes,
    nearest_codes,
    nearest_entry,
    residual_kmeans,
    revive,
    sum_entries,
)
from fedpeft.items.state import State
from fedpeft.seeding import torch_rng

_DECAY = 0.95
"""Memory of the moving averages: about 20 batches."""
_DEAD = 0.02
"""A code with less than this share of the average use is revived."""


@dataclass(frozen=True, eq=False)
class SemanticCoder:
    """The half of a trained RQ-VAE that codes items.

    Attributes
    ----------
    books
        Codebooks of its latents, float32 of shape (l, d, k).
    """

    network: Network
    books: Tensor

    def encode(self, inputs: Tensor) -> Tensor:
        """Return the codes of (m, D) input vectors, int64 of shape (m, l)."""
        return nearest_codes(self.network(inputs), self.books)

    def state(self) -> State:
        """Return all it consists of."""
        return State({"books": self.books}).with_part("network.", self.network.state())

    @classmethod
    def of(cls, state: State) -> SemanticCoder:
        """Rebuild what `state` returned; raises `ArtifactError` if it does not fit together."""
        network = Network.of(state.part("network."))
        return cls(network, state.tensor("books", None, None, network.dim).clone())


@dataclass(frozen=True, eq=False)
class SemanticIDs:
    """What the RQ-VAE says about n items.

    Attributes
    ----------
    codes
        int64 of shape (n, l), each in [0, d).
    codebooks
        float32 of shape (l, d, k).
    coder
        What codes other items likewise.
    report
        JSON-able: see `train_rqvae`.
    """

    codes: Tensor
    codebooks: Tensor
    coder: SemanticCoder
    report: dict[str, Any]


class ResidualQuantiser:
    """l codebooks of d entries that follow the latents they are shown.

    Parameters
    ----------
    latents
        float32 of shape (n, k); residual k-means on them gives the first codebooks.
    """

    def __init__(self, latents: Tensor, levels: int, codes: int, seed: int) -> None:
        _, self.codebooks = residual_kmeans(latents, levels, codes, seed)
        self._counts = torch.ones(levels, codes)
        self._sums = self.codebooks.clone()

    def encode(self, latents: Tensor) -> Tensor:
        """Return the codes of (n, k) latents, int64 of shape (n, l)."""
        return nearest_codes(latents, self.codebooks)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the sum of the entries, shape (n, k)."""
        return sum_entries(self.codebooks, codes)

    def learn(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise a batch and move the codebooks towards it.

        Returns
        -------
        The quantised latents, constant, shape (b, k); and the commitment loss: the squared distance
        of each level's residual to its entry, summed over levels, mean over the batch.
        """
        residual, commitment = latents, latents.new_zeros(())
        quantised = torch.zeros_like(latents)
        for level in range(len(self.codebooks)):
            book = self.codebooks[level]
            nearest, distance = nearest_entry(residual.detach(), book)
            entries = book[nearest]
            commitment = commitment + (residual - entries).square().sum(dim=1).mean()
            quantised = quantised + entries
            self._follow(level, residual.detach(), nearest, distance)
            residual = residual - entries
        return quantised, commitment

    def _follow(self, level: int, residual: Tensor, nearest: Tensor, distance: Tensor) -> None:
        codes = self.codebooks.shape[1]
        sums, counts = cluster_sums(residual, nearest, codes)
        typical = len(residual) / codes
        # counts are kept relative to typical use, so that a last, smaller batch weighs the same
        self._counts[level].lerp_(counts / typical, 1 - _DECAY)
        self._sums[level].lerp_(sums / typical, 1 - _DECAY)
        book = self._sums[level] / self._counts[level].clamp(min=1e-6)[:, None]
        dead = torch.nonzero(self._counts[level] < _DEAD).flatten()
        if len(dead):
            book = revive(book, dead, residual, distance)
            self._counts[level, dead] = 1.0
            self._sums[level, dead] = book[dead]
        self.codebooks[level] = book


def rotate(latents: Tensor, quantised: Tensor) -> Tensor:
    """Return `quantised` with the gradient of the rotation and scaling that maps latents onto it.

    Equation 4 of https://arxiv.org/abs/2410.06424, the rotation in its Householder form; rows that
    have no direction (length 0) are copied straight through.
    """
    with torch.no_grad():
        length = latents.norm(dim=1, keepdim=True)
        target = quantised.norm(dim=1, keepdim=True)
        usable = (length > 1e-6) & (target > 1e-6)
        length, target = length.clamp(min=1e-6), target.clamp(min=1e-6)
        start, end = latents / length, quantised / target
        middle = nn.functional.normalize(start + end, dim=1)
        stretch = target / length
    turned = stretch * (
        latents
        - 2 * (latents * middle).sum(dim=1, keepdim=True) * middle
        + 2 * (latents * start).sum(dim=1, keepdim=True) * end
    )
    turned = torch.where(usable, turned, straight_through(latents, quantised))
    return turned + (quantised - turned).detach()  # the exact value, whatever rounding did


def straight_through(latents: Tensor, quantised: Tensor) -> Tensor:
    """Return `quantised` with the gradient of the identity (Bengio et al. 2013)."""
    return latents + (quantised - latents).detach()


def train_rqvae(
    inputs: Tensor, levels: int, codes: int, config: ItemsConfig, progress: Progress
) -> SemanticIDs:
    """Train an RQ-VAE and encode all items with it.

    Parameters
    ----------
    inputs
        float32 of shape (n, D).
    levels, codes
        l codebooks of d entries.

    Returns
    -------
    Codes, and codebooks shifted and scaled so that the items' sums of entries have zero mean per
    dimension and standard deviation ``config.scale``.  The report holds ``unexplained`` (fraction
    of input variance lost by decoding the codes), ``quantisation_error`` (fraction of latent
    variance lost), and what `describe_codes` tells.

    Raises
    ------
    CollapseError
        If all input vectors are equal.
    """
    scaling = informative_scaling(inputs)
    rng = torch_rng(config.seed, "items", "rqvae")
    encoder, decoder = linear_autoencoder(inputs, scaling, config.hidden, config.dim, rng)
    carry = rotate if config.rqvae.estimator == "rotation" else straight_through
    some = torch.randperm(len(inputs), generator=rng)[: FIT_ROWS_PER_CODE * codes]
    network = Network(scaling, encoder)
    latents = network(inputs[some])
    quantiser = ResidualQuantiser(latents, levels, codes, config.seed)

    def loss_of(rows: Tensor) -> Tensor:
        target = scaling(inputs[rows])
        latents = encoder(target)
        quantised, commitment = quantiser.learn(latents)
        rebuilt = decoder(carry(latents, quantised))
        # squared distances per item, as in RQ-VAE; means per entry would weigh the few latent
        # dimensions D / k times as much as the inputs, and the latents would shrink to clusters
        distance = (rebuilt - target).square().sum(dim=1).mean()
        loss: Tensor = (distance + config.rqvae.commitment * commitment) / inputs.shape[1]
        return loss

    train(
        [*encoder.parameters(), *decoder.parameters()],
        loss_of,
        len(inputs),
        config.rqvae,
        rng,
        lambda done: progress("rqvae", done),
    )
    latents = network(inputs)
    chosen = quantiser.encode(latents)
    lost = unexplained(
        inputs, scaling, lambda x: decoder(quantiser.decode(quantiser.encode(encoder(x))))
    )
    error = (quantiser.decode(chosen) - latents).square().sum() / (
        latents - latents.mean(dim=0)
    ).square().sum()
    report = {
        "unexplained": lost,
        "quantisation_error": float(error),
        **describe_codes(chosen, codes),
    }
    codebooks = _normalise(quantiser.codebooks, chosen, config.scale)
    coder = SemanticCoder(network, quantiser.codebooks)
    return SemanticIDs(chosen, codebooks, coder, report)


def _normalise(codebooks: Tensor, chosen: Tensor, scale: float) -> Tensor:
    """Shift level 0, which every item uses once, and scale all levels alike."""
    vectors = sum_entries(codebooks, chosen)
    mean = vectors.mean(dim=0)
    std = float((vectors - mean).square().mean().sqrt())
    centred = codebooks.clone()
    centred[0] -= mean
    if std == 0:  # every item has the same codes
        return torch.zeros_like(codebooks)
    return centred.mul_(scale / std)
