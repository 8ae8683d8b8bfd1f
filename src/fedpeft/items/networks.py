"""What the autoencoder and the RQ-VAE share: scaled inputs, networks, the training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from fedpeft.errors import RunError
from fedpeft.items.config import TrainingConfig

Progress = Callable[[str, float], None]
"""Called with the name of a stage and the fraction of it that is done."""

CHUNK = 8192
"""Rows that pass a network or a distance matrix at once outside training."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """Maps vectors to zero mean per column and mean column variance 1, all by one factor.

    One factor keeps the geometry of the vectors, and makes a mean squared error the fraction of
    variance left unexplained.  ``std`` is 0 when all vectors are equal.
    """

    mean: Tensor
    std: float

    @classmethod
    def of(cls, vectors: Tensor) -> Scaling:
        """Measure vectors of shape (n, D)."""
        chunks = vectors.split(CHUNK)  # in float64 a chunk at a time, not all at once
        mean = torch.stack([chunk.double().sum(dim=0) for chunk in chunks]).sum(dim=0)
        mean /= len(vectors)
        squares = sum(float((chunk.double() - mean).square().sum()) for chunk in chunks)
        std = math.sqrt(squares / vectors.numel())
        largest = max(abs(float(edge)) for edge in vectors.aminmax())
        # below float32 resolution the difference between the rows is rounding
        return cls(mean.float(), std if std > 1e-6 * largest else 0.0)

    def __call__(self, vectors: Tensor) -> Tensor:
        return (vectors - self.mean) / self.std


def mlp(sizes: Sequence[int], rng: torch.Generator) -> nn.Sequential:
    """Return linear layers with ReLU between them, He-initialised from `rng`, zero biases."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)
        nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu", generator=rng)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def start_linear(network: nn.Sequential, inward: Tensor, outward: Tensor) -> None:
    """Set a network of `mlp` to compute the linear map ``outward @ inward @ x``, in place.

    Through a ReLU layer a coordinate c travels as the pair relu(c), relu(-c).  Units that are not
    needed for that keep their random incoming weights and start without outgoing ones, so training
    departs from the linear solution at once.

    Parameters
    ----------
    inward
        Shape (c, inputs): the coordinates to carry, most important first; what the narrowest hidden
        layer has no room for is dropped.
    outward
        Shape (outputs, c).
    """
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    carried = min([len(inward), *(layer.out_features // 2 for layer in layers[:-1])])
    coordinates = inward[:carried]
    with torch.no_grad():
        for layer in layers[:-1]:
            layer.weight[: 2 * carried] = torch.cat([coordinates, -coordinates])
            coordinates = torch.zeros(carried, layer.out_features)
            coordinates[:, : 2 * carried] = torch.cat(
                [torch.eye(carried), -torch.eye(carried)], dim=1
            )
        layers[-1].weight.copy_(outward[:, :carried] @ coordinates)


def train(
    parameters: Iterable[nn.Parameter],
    loss_of: Callable[[Tensor], Tensor],
    n: int,
    config: TrainingConfig,
    rng: torch.Generator,
    progress: Callable[[float], None],
) -> None:
    """Minimise `loss_of` over shuffled batches of row indices.

    Parameters
    ----------
    loss_of
        Takes int64 rows of shape (batch,) and returns the mean loss of the batch.
    n
        Number of rows.

    Raises
    ------
    RunError
        If the loss stops being finite.
    """
    size = min(config.batch_size, n)
    per_epoch = math.ceil(n / size)
    steps = min(config.epochs * per_epoch, config.max_steps)
    optimiser = torch.optim.Adam(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        turn = step % per_epoch
        if turn == 0:
            order = torch.randperm(n, generator=rng)
        loss = loss_of(order[turn * size : (turn + 1) * size])
        if not torch.isfinite(loss):
            raise RunError(
                f"the loss became {loss.item()} at step {step}; lower the learning rate "
                f"(it is {config.learning_rate})"
            )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        progress((step + 1) / steps)


def apply_chunked(function: Callable[[Tensor], Tensor], vectors: Tensor) -> Tensor:
    """Apply a row-wise function to (n, D) vectors without gradients, a chunk at a time."""
    with torch.no_grad():
        return torch.cat([function(chunk) for chunk in vectors.split(CHUNK)])
