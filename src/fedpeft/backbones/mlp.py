"""Linear layers with ReLU between them, down to one score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    """Layers of the given widths, then one linear output.

    Parameters
    ----------
    inputs
        Values per input vector.
    hidden
        Width of each hidden layer.

    Notes
    -----
    All parameters are zero until somebody sets them to a `draw`: a module's constructor must not
    take random numbers from torch's global stream.
    """

    def __init__(self, inputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        sizes = [inputs, *hidden, 1]
        self.weights = nn.ParameterList(torch.zeros(out, into) for into, out in pairwise(sizes))
        self.biases = nn.ParameterList(torch.zeros(out) for out in sizes[1:])

    def draw(self, rng: torch.Generator) -> dict[str, Tensor]:
        """Return start values: zero biases, weights uniform in +-sqrt(6 / inputs) of their layer.

        That range keeps the size of activations through ReLU layers (He et al. 2015, eq. 10).
        """
        drawn = {name: torch.zeros_like(p) for name, p in self.named_parameters()}
        for layer, weight in enumerate(self.weights):
            bound = math.sqrt(6 / weight.shape[1])
            uniform = torch.rand(weight.shape, generator=rng)
            drawn[f"weights.{layer}"] = (2 * uniform - 1) * bound
        return drawn

    def forward(self, vectors: Tensor) -> Tensor:
        """Return scores, float (...), of vectors, float (..., inputs)."""
        return self.above(F.linear(vectors, self.weights[0], self.biases[0]))

    def above(self, first: Tensor) -> Tensor:
        """Return scores, float (...), from the first layer before its ReLU, float (..., width)."""
        hidden = first
        # no slice: a slice of a ParameterList makes new parameters, cut off from the gradient
        for weight, bias in islice(zip(self.weights, self.biases, strict=True), 1, None):
            hidden = F.linear(hidden.relu(), weight, bias)
        return hidden.squeeze(-1)
