"""One step of the server's optimiser, as a function of parameters, gradient and moments."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fedpeft.tensors import Tensors
from fedpeft.training import OptimizerConfig


def optimizer_step(
    config: OptimizerConfig,
    factor: float,
    parameters: Mapping[str, Tensor],
    gradient: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
) -> tuple[Tensors, Tensors]:
    """Return parameters and moments after a step; nothing that is handed in changes.

    Parameters
    ----------
    factor
        On the learning rate.
    parameters, gradient
        name -> float32.
    moments
        ``name|key`` -> Tensor, as returned before; none begins anew.
    """
    moved = {name: tensor.clone() for name, tensor in parameters.items()}
    optimizer = config.build(moved.values())
    for name, tensor in moved.items():
        tensor.grad = gradient[name]
        start = f"{name}|"
        own = {n.removeprefix(start): t for n, t in moments.items() if n.startswith(start)}
        if own:
            optimizer.state[tensor] = {key: value.clone() for key, value in own.items()}
    for group in optimizer.param_groups:
        group["lr"] = config.lr * factor
    optimizer.step()
    after = {}
    for name, tensor in moved.items():
        for key, value in optimizer.state[tensor].items():
            if isinstance(value, Tensor):
                after[f"{name}|{key}"] = value
        tensor.grad = None
    return moved, after
