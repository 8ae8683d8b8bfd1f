"""The base embedding: latents of an autoencoder (arXiv 2512.13734), or of its linear optimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedpeft.errors import CollapseError
from fedpeft.items.config import ItemsConfig
from fedpeft.items.linear import linear_autoencoder, principal_axes
from fedpeft.items.networks import Progress, Scaling, apply_chunked, train
from fedpeft.items.projection import Axes, Network
from fedpeft.seeding import torch_rng

_HOPELESS = 0.995
"""Fraction of variance unexplained from which a reconstruction counts as the mean alone."""


@dataclass(frozen=True)
class LatentReport:
    """What is left of the input vectors in the latents.

    Attributes
    ----------
    unexplained
        Squared reconstruction error as a fraction of the variance of the inputs: 1 is no better
        than predicting the mean.
    latent_variance
        Variance of each latent dimension before normalisation, k values; inputs have 1 per column.
    effective_rank
        exp of the entropy of the spectrum of the latents' covariance (Roy and Vetterli 2007):
        between 1 and k.
    """

    unexplained: float
    latent_variance: list[float]
    effective_rank: float


def train_autoencoder(
    inputs: Tensor, config: ItemsConfig, progress: Progress
) -> tuple[Network, Tensor, LatentReport]:
    """Train [D, hidden..., k] and its mirror with ReLU, mean squared error and Adam.

    Parameters
    ----------
    inputs
        float32 of shape (n, D).

    Returns
    -------
    The encoder half; its latents, float32 of shape (n, k), not normalised; and what they carry.

    Raises
    ------
    CollapseError
        If the latents carry no information about the inputs.
    """
    scaling = informative_scaling(inputs)
    rng = torch_rng(config.seed, "items", "autoencoder")
    encoder, decoder = linear_autoencoder(inputs, scaling, config.hidden, config.dim, rng)

    def loss_of(rows: Tensor) -> Tensor:
        target = scaling(inputs[rows])
        return nn.functional.mse_loss(decoder(encoder(target)), target)

    train(
        [*encoder.parameters(), *decoder.parameters()],
        loss_of,
        len(inputs),
        config.autoencoder,
        rng,
        lambda done: progress("autoencoder", done),
    )
    network = Network(scaling, encoder)
    latents = network(inputs)
    lost = unexplained(inputs, scaling, lambda x: decoder(encoder(x)))
    return network, latents, check(latents, lost)


def principal_components(inputs: Tensor, dim: int) -> tuple[Axes, Tensor, LatentReport]:
    """Project on the leading principal axes; columns beyond D, if any, are zero.

    Returns and raises as `train_autoencoder`.
    """
    scaling = informative_scaling(inputs)
    rows = principal_axes(inputs, scaling, dim).T.contiguous()
    axes = Axes(scaling, rows, dim)
    latents = axes(inputs)
    lost = unexplained(inputs, scaling, lambda x: x @ rows.T @ rows)
    return axes, latents, check(latents, lost)


def informative_scaling(inputs: Tensor) -> Scaling:
    """Return the scaling of (n, D) vectors; raises `CollapseError` when all rows are equal."""
    scaling = Scaling.of(inputs) if len(inputs) else None
    if scaling is None or scaling.std == 0:
        raise CollapseError(
            f"no two of the {len(inputs)} items with text have different input vectors, so a base "
            "embedding or semantic codes would be empty; set items.base to 'none'"
        )
    return scaling


def unexplained(inputs: Tensor, scaling: Scaling, rebuild: Callable[[Tensor], Tensor]) -> float:
    """Return the fraction of variance that `rebuild` loses of the scaled inputs."""

    def row_error(chunk: Tensor) -> Tensor:
        target = scaling(chunk)
        return (rebuild(target) - target).square().mean(dim=1)

    return float(apply_chunked(row_error, inputs).double().mean())


def check(latents: Tensor, unexplained: float) -> LatentReport:
    """Measure (n, k) latents, and refuse those that carry nothing.

    Raises
    ------
    CollapseError
        If all latents are (nearly) constant, or the reconstruction is no better than the mean.
    """
    centred = latents.double() - latents.double().mean(dim=0)
    covariance = centred.T @ centred / len(latents)
    variance = covariance.diagonal()
    if float(variance.sum()) < 1e-8 or unexplained > _HOPELESS:
        raise CollapseError(
            f"the base embedding has collapsed: {unexplained:.1%} of the input variance is "
            f"unexplained and the latents' largest variance is {float(variance.max()):.1e}; "
            "lower items.autoencoder.weight_decay or learning_rate, or set items.base to 'svd'"
        )
    spectrum = torch.linalg.eigvalsh(covariance).clamp(min=0)
    shares = spectrum / spectrum.sum()
    entropy = -torch.xlogy(shares, shares).sum()
    return LatentReport(unexplained, variance.tolist(), float(entropy.exp()))
