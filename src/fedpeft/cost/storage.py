"""Bytes that live in memory and on disk: of sketches, and of the tensors that are really there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fedpeft import adapters
from fedpeft.backbones import Backbone
from fedpeft.protocol.encodings import CODECS, Blocks
from fedpeft.protocol.statistics import MomentForm
from fedpeft.training.config import TrainingConfig


@dataclass(frozen=True)
class Memory:
    """What one side holds between rounds, in bytes; a client's history is not included.

    Attributes
    ----------
    base, subspace
        The frozen base table; codes or hash coefficients, as wide as they are kept in memory.
    adapter, shared
        The payload: the adapter's tensors, the backbone's shared ones.
    local
        A client's local parameters.
    optimizer
        Moments of the server's optimiser; with a second-order one the averages of what clients
        sent, if it has a momentum.
    feedback
        What rounding to 8 or 4 bits lost of the broadcast, kept by the server for the next one.
    """

    base: int
    subspace: int
    adapter: int
    shared: int
    local: int
    optimizer: int
    feedback: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Storage:
    """The two sides."""

    client: Memory
    server: Memory


def storage(backbone: Backbone, training: TrainingConfig) -> Storage:
    """Return what client and server hold; of a sketch, what they would hold.

    The module is changed: its server takes a step, so that the optimiser has its state.
    """
    item = backbone.item
    local = [backbone.get_parameter(name) for name in backbone.local]
    local_bytes = nbytes(local) + nbytes(backbone.get_buffer(name) for name in backbone.kept)
    base = 0 if item.base is None else nbytes([item.base])
    subspace = nbytes(buffer for name, buffer in item.named_buffers() if name != "base")
    adapter, shared = nbytes(item.parameters()), nbytes(backbone.shared().values())
    narrow = issubclass(CODECS[training.broadcast_encoding], Blocks)
    feedback = adapter + shared if narrow else 0
    moments = optimizer_bytes(backbone, training)
    return Storage(
        client=Memory(base, subspace, adapter, shared, local_bytes, 0, 0),
        server=Memory(base, subspace, adapter, shared, 0, moments, feedback),
    )


def optimizer_bytes(backbone: Backbone, training: TrainingConfig) -> int:
    """Return what the server's optimiser holds after a step."""
    payload = [*backbone.item.parameters(), *backbone.shared().values()]
    if training.server_optimizer.kind == "newton":
        moment = 4 * MomentForm(backbone.item.embedding_dim).size
        return nbytes(payload) + moment if training.server_optimizer.momentum else 0
    optimizer = training.server_optimizer.build(payload)
    for parameter in payload:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return sum(
        nbytes(value for value in state.values() if isinstance(value, Tensor))
        for state in optimizer.state.values()
    )


def artifact_bytes(item: adapters.ItemEmbedding) -> int:
    """Return the size on disk of the saved adapter, without its base."""
    with tempfile.TemporaryDirectory() as folder:
        adapters.save(item, Path(folder))
        return sum(path.stat().st_size for path in Path(folder).iterdir())


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of some tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
