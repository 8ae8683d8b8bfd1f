"""A device's copy of the model: the base at one version, kept up to date by messages alone."""

from __future__ import annotations

import torch
from torch import Tensor

from fedpeft.adapters import ItemContext, build
from fedpeft.adapters.full import FullConfig
from fedpeft.backbones import Backbone
from fedpeft.client.state import NO_VERSION
from fedpeft.items.coded import unpack_coded
from fedpeft.protocol.aggregate import finite
from fedpeft.protocol.encodings import CODECS
from fedpeft.protocol.messages import (
    NOTHING,
    Broadcast,
    Snapshot,
    Step,
    extend,
    first_lineage,
)
from fedpeft.protocol.wire import MessageError
from fedpeft.tensors import Tensors
from fedpeft.training.task import Task, payload_parameters, payload_shapes


class Replica:
    """The model as one device holds it.

    Parameters
    ----------
    task
        What the run has agreed on.
    device
        Where its tensors live.

    Attributes
    ----------
    version
        The version of the base it holds; `NO_VERSION` before the first download.
    lineage
        SHA-256 over the bytes it was made from; see `fedpeft.protocol.messages.extend`.
    backbone
        The one-client module on that base; parameters hold the payload received last.

    Raises
    ------
    ConfigError
        If the parts and settings of the task do not go together.
    """

    def __init__(self, task: Task, device: torch.device | None = None) -> None:
        self.task = task
        self.device = device or torch.device("cpu")
        self.version = NO_VERSION
        self.lineage = b""
        blank = ItemContext(self._no_base(), seed=0)  # as wide as what will take its place
        self.backbone: Backbone = task.make_backbone(build("full", FullConfig(), blank))
        self.backbone.to(self.device)

    def install(self, snapshot: Snapshot) -> None:
        """Take over a whole version.

        Raises
        ------
        MessageError, ArtifactError
            If it does not fit the task, or its lineage is not that of its bytes.
        """
        if snapshot.version == 0 or self.task.phase_of(snapshot.version - 1) == "warmup":
            lineage = first_lineage(snapshot.version, snapshot.base, snapshot.subspace)
            if lineage != snapshot.lineage:
                raise MessageError("Snapshot: its lineage is not that of its bytes")
        self._set(snapshot.version, self._base(snapshot), snapshot.subspace, snapshot.lineage)

    def begin(self) -> None:
        """Enter version 0 of a run in which nothing has to be downloaded for that."""
        self._set(0, self._no_base(), b"", NOTHING)

    def follow(self, step: Step) -> None:
        """Merge the payload of a step into the base and enter the new subspace.

        Raises
        ------
        MessageError
            If the step leads from another version than the one held, or does not fit.
        """
        if self.version == NO_VERSION and step.version == 1:
            self.begin()
        if step.version != self.version + 1:
            raise MessageError(
                f"Step: it leads to version {step.version}, but {self._holds()} is held"
            )
        item = self.backbone.item
        shapes = {name: parameter.shape for name, parameter in item.named_parameters()}
        payload = self.task.broadcast_codec.decode(step.payload, shapes)
        merged = item.merge({name: t.to(self.device) for name, t in payload.items()})
        self._set(step.version, merged.cpu(), step.subspace, extend(self.lineage, step))

    def receive(self, broadcast: Broadcast) -> Tensors:
        """Return the payload of a broadcast, name -> float32, on the device.

        Raises
        ------
        MessageError
            If it belongs to another version, or to a base of other origin, or does not fit.
        """
        if self.version == NO_VERSION and broadcast.lineage == NOTHING:
            self.begin()
        if broadcast.version != self.version:
            raise MessageError(
                f"Broadcast: it belongs to version {broadcast.version} of the base, "
                f"but {self._holds()} is held"
            )
        if broadcast.lineage != self.lineage:
            raise MessageError("Broadcast: it belongs to a base of another origin")
        shapes = payload_shapes(self.backbone)
        if broadcast.payload:
            found = self.task.broadcast_codec.decode(broadcast.payload, shapes)
        else:
            found = {name: torch.zeros(shape) for name, shape in shapes.items()}
        return {name: tensor.to(self.device) for name, tensor in found.items()}

    def hold(self, payload: Tensors) -> None:
        """Let the module's parameters be a payload's tensors, without copying them."""
        for name, parameter in payload_parameters(self.backbone).items():
            parameter.data = payload[name]

    def _holds(self) -> str:
        return "none" if self.version == NO_VERSION else f"version {self.version}"

    def _base(self, snapshot: Snapshot) -> Tensor:
        """Return the base of a snapshot, float32 (n, k)."""
        task = self.task
        shape = {"base": torch.Size((task.n_items, task.dim))}
        if snapshot.coding == "float32":
            return CODECS["float32"]().decode(snapshot.base, shape)["base"]
        if snapshot.coding == "broadcast":
            return task.broadcast_codec.decode(snapshot.base, shape)["base"]
        if snapshot.coding == "codes":
            return unpack_coded(snapshot.base, task.n_items, task.dim)
        return self._no_base()

    def _no_base(self) -> Tensor:
        """Return what stands for a base that is not needed: zeros that take no memory."""
        return torch.zeros(1, 1).expand(self.task.n_items, self.task.dim)

    def _set(self, version: int, base: Tensor, subspace: bytes, lineage: bytes) -> None:
        _, config = self.task.adapter_at(version)
        frozen = config.unpack_subspace(subspace, self.task.n_items)
        item = self.task.item(version, base, frozen=frozen)
        if item.base is not None and base.stride() == (0, 0):
            raise MessageError("a base has to be downloaded, and none was")
        if not finite([base]):
            raise MessageError("Snapshot or Step: the base is not finite")
        self.backbone.item = item.to(self.device)
        self.version, self.lineage = version, lineage
