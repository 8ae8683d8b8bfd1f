"""What a server keeps between rounds, and how it saves and loads itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from fedpeft.adapters import ItemEmbedding, check_tensors
from fedpeft.errors import ArtifactError
from fedpeft.protocol.messages import (
    Snapshot,
    Step,
)
from fedpeft.server.optimizer import optimizer_step
from fedpeft.tensors import Tensors
from fedpeft.training.config import Phase
from fedpeft.training.task import Task, payload_shapes


@dataclass(frozen=True, eq=False)
class ServerState:
    """The server's half of a run between two rounds.

    Attributes
    ----------
    round
        Number of the next round.
    begun
        Number of the round whose merge, if it has one, is done.
    phase
        `warmup` or `adapt`.
    version
        Version of the base: how many merges there were, the end of the warm-up among them.
    lineage
        SHA-256 over the bytes the base was made from.
    item
        Base and frozen subspace.  Its own parameters are empty: the payload is beside it.
    payload
        name -> float32: what travels in each round.
    moments
        ``name|key`` -> Tensor: the optimiser's.
    residual
        name -> float32: what rounding lost of the broadcasts so far.
    first
        The snapshot that the adapt phase began with.
    steps
        The merges since, in order.
    anchor
        float32 (n, k): what a prior pulls item vectors to, where there is one.
    """

    round: int
    begun: int
    phase: Phase
    version: int
    lineage: bytes
    item: ItemEmbedding
    payload: Tensors
    moments: Tensors
    residual: Tensors
    first: Snapshot
    steps: tuple[Step, ...] = ()
    anchor: Tensor | None = None

    def to_tensors(self) -> Tensors:
        """Return all tensors of the state by name; messages are bytes, uint8 (N,)."""
        groups: dict[str, Mapping[str, Tensor]] = {
            "payload": self.payload,
            "moments": self.moments,
            "residual": self.residual,
            "frozen": self.item.frozen(),
            "message": {
                str(place): torch.from_numpy(np.frombuffer(message.to_bytes(), np.uint8).copy())
                for place, message in enumerate((self.first, *self.steps))
            },
        }
        tensors = {f"{group}/{n}": t for group, own in groups.items() for n, t in own.items()}
        if self.anchor is not None:
            tensors["anchor"] = self.anchor
        if self.item.base is not None:
            tensors["base"] = self.item.base
        return tensors

    def to_dict(self) -> dict[str, Any]:
        """Return the rest of the state, ready for JSON."""
        return {
            "round": self.round,
            "begun": self.begun,
            "phase": self.phase,
            "version": self.version,
            "lineage": self.lineage.hex(),
        }

    @classmethod
    def load(
        cls, task: Task, values: Mapping[str, Any], tensors: Tensors, device: torch.device
    ) -> Self:
        """Undo `to_dict` and `to_tensors`.

        Raises
        ------
        ArtifactError
            If a tensor is missing or does not fit the task.
        """
        version = values["version"]
        base = tensors.get("base")
        whole = (task.n_items, task.dim)
        if base is None:  # some adapters keep none
            base = torch.zeros(1, 1).expand(whole)
        check_tensors({"base": base}, {"base": whole}, "the server's state")
        item = task.item(version, base, frozen=group(tensors, "frozen"))
        anchor = tensors.get("anchor")
        if anchor is not None:
            check_tensors({"anchor": anchor}, {"anchor": whole}, "the server's state")
        payload = group(tensors, "payload")
        check_tensors(payload, payload_shapes(task.make_backbone(item)), "the server's state")
        shapes = {name: tensor.shape for name, tensor in payload.items()}
        moments, residual = group(tensors, "moments"), group(tensors, "residual")
        if residual:
            check_tensors(residual, shapes, "the server's state")
        _check_moments(task, values["phase"], moments, payload, item)
        messages = group(tensors, "message")
        try:
            told = [messages[str(place)].numpy().tobytes() for place in range(len(messages))]
            first, *steps = told
        except (KeyError, ValueError):
            raise ArtifactError("the server's state lacks its first snapshot or a step") from None
        return cls(
            values["round"],
            values["begun"],
            values["phase"],
            version,
            bytes.fromhex(values["lineage"]),
            empty(item.to(device)),
            {n: t.to(device) for n, t in payload.items()},
            {n: t.to(device) for n, t in moments.items()},
            {n: t.to(device) for n, t in residual.items()},
            Snapshot.from_bytes(first),
            tuple(Step.from_bytes(step) for step in steps),
            None if anchor is None else anchor.to(device),
        )


def _check_moments(
    task: Task, phase: Phase, moments: Tensors, payload: Tensors, item: ItemEmbedding
) -> None:
    """Raise `ArtifactError` unless the optimiser could have left these moments, or a part."""
    if task.splits:  # averages of what clients send
        usual = task.sent({name: tensor.shape for name, tensor in payload.items()}, item)
    else:
        config = task.training.server_optimizer_at(phase)
        still = {name: torch.zeros_like(tensor) for name, tensor in payload.items()}
        found = optimizer_step(config, 0.0, still, still, {})[1]
        usual = {name: tensor.shape for name, tensor in found.items()}
    known = {name.partition("|")[0] for name in moments}
    shapes = {name: shape for name, shape in usual.items() if name.partition("|")[0] in known}
    check_tensors(moments, shapes, "the server's state", finite=False)


def empty(item: ItemEmbedding) -> ItemEmbedding:
    """Return the item embedding without the memory of its parameters."""
    for parameter in item.parameters():
        parameter.data = parameter.data.new_empty(0)
    return item


def group(tensors: Tensors, name: str) -> Tensors:
    """Return the tensors called ``name/...``, without that."""
    start = f"{name}/"
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
