"""How tensors become bytes: float32, float16, and int8 with a scale per block of 64 values.

The wire format is the values themselves, little-endian, tensor after tensor in the order of their
names; names and shapes are agreed once, so no header travels.  Every size the ledger counts is the
length of what these encoders return.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.federation.scoring import Tensors

Shapes = Mapping[str, torch.Size]
BLOCK = 64


class Codec(ABC):
    """Turns named tensors into bytes and back."""

    lossless: ClassVar[bool] = False

    @abstractmethod
    def parts(self, stacked: Tensor) -> list[Tensor]:
        """Return what travels for C tensors of N values, float32 (C, N), as tensors (C, ...)."""

    @abstractmethod
    def join(self, parts: list[Tensor]) -> Tensor:
        """Undo `parts`, float32 (C, N)."""

    @abstractmethod
    def layout(self, values: int) -> list[tuple[torch.dtype, int]]:
        """Return dtype and length of each part for a tensor of `values` values."""

    def encode(self, tensors: Mapping[str, Tensor]) -> bytes:
        """Return the bytes that travel for `tensors` (float32, any shape)."""
        return b"".join(
            part.cpu().numpy().tobytes()
            for name in sorted(tensors)
            for part in self.parts(tensors[name].detach().float().reshape(1, -1))
        )

    def size(self, shapes: Shapes) -> int:
        """Return how many bytes `encode` makes of tensors of these shapes."""
        return sum(
            dtype.itemsize * length
            for shape in shapes.values()
            for dtype, length in self.layout(shape.numel())
        )

    def decode(self, data: bytes, shapes: Shapes) -> Tensors:
        """Undo `encode`; raises `ArtifactError` when `data` is not as long as it must be."""
        expected = self.size(shapes)
        if len(data) != expected:
            raise ArtifactError(f"payload has {len(data)} bytes, its layout takes {expected}")
        tensors, start = {}, 0
        for name in sorted(shapes):
            parts = []
            for dtype, length in self.layout(shapes[name].numel()):
                raw = np.frombuffer(data, np.uint8, dtype.itemsize * length, start).copy()
                parts.append(torch.from_numpy(raw).view(dtype).unsqueeze(0))
                start += len(raw)
            tensors[name] = self.join(parts).reshape(shapes[name])
        return tensors

    def through(self, stacked: Mapping[str, Tensor]) -> Tensors:
        """Return what arrives when each of C clients sends its tensors, name -> float (C, ...).

        Equals encoding and decoding client by client.
        """
        return {
            name: self.join(self.parts(tensor.unsqueeze(-1).flatten(1))).reshape(tensor.shape)
            for name, tensor in stacked.items()
        }


class Float32(Codec):
    """Values as they are."""

    lossless = True

    def parts(self, stacked: Tensor) -> list[Tensor]:
        return [stacked]

    def join(self, parts: list[Tensor]) -> Tensor:
        return parts[0]

    def layout(self, values: int) -> list[tuple[torch.dtype, int]]:
        return [(torch.float32, values)]


class Float16(Codec):
    """Values rounded to half precision, clamped to its range."""

    def parts(self, stacked: Tensor) -> list[Tensor]:
        limit = torch.finfo(torch.float16).max
        return [stacked.clamp(-limit, limit).half()]

    def join(self, parts: list[Tensor]) -> Tensor:
        return parts[0].float()

    def layout(self, values: int) -> list[tuple[torch.dtype, int]]:
        return [(torch.float16, values)]


class Int8(Codec):
    """Each block of 64 values as 8-bit integers times one float32 scale (largest value / 127)."""

    def parts(self, stacked: Tensor) -> list[Tensor]:
        clients, values = stacked.shape
        blocks = torch.nn.functional.pad(stacked, (0, -values % BLOCK)).view(clients, -1, BLOCK)
        scales = blocks.abs().amax(-1) / 127
        whole = (blocks / scales.clamp(min=1e-30).unsqueeze(-1)).round().to(torch.int8)
        return [scales, whole.view(clients, -1)[:, :values].contiguous()]

    def join(self, parts: list[Tensor]) -> Tensor:
        scales, whole = parts
        return whole * scales.repeat_interleave(BLOCK, dim=1)[:, : whole.shape[1]]

    def layout(self, values: int) -> list[tuple[torch.dtype, int]]:
        return [(torch.float32, -(-values // BLOCK)), (torch.int8, values)]


CODECS: dict[str, type[Codec]] = {"float32": Float32, "float16": Float16, "int8": Int8}


class ErrorFeedback:
    """What rounding lost, added to the next message of the same sender (Seide et al. 2014).

    Parameters
    ----------
    codec
        The lossy codec.
    senders
        Number of senders, each with its own residual.
    max_bytes
        Bound on all residuals together.
    """

    def __init__(self, codec: Codec, senders: int, max_bytes: int = 8 << 30) -> None:
        self._codec = codec
        self._senders = senders
        self._max_bytes = max_bytes
        self.residual: Tensors = {}

    def send(self, stacked: Mapping[str, Tensor], senders: Tensor) -> Tensors:
        """Return what arrives of the stacked tensors, name -> float (C, ...); keeps the rest."""
        self._allocate(stacked)
        meant = {name: tensor + self.residual[name][senders] for name, tensor in stacked.items()}
        arrived = self._codec.through(meant)
        for name, tensor in meant.items():
            self.residual[name][senders] = tensor - arrived[name]
        return arrived

    def reset(self) -> None:
        """Forget all residuals, as a new subspace demands."""
        self.residual = {}

    def _allocate(self, stacked: Mapping[str, Tensor]) -> None:
        if self.residual:
            return
        size = 4 * self._senders * sum(tensor[0].numel() for tensor in stacked.values())
        if size > self._max_bytes:
            raise ConfigError(
                f"training.encoding = 'int8' keeps {size / 2**30:.1f} GiB of error feedback for "
                f"{self._senders} clients, more than {self._max_bytes / 2**30:.0f} GiB; use a "
                "smaller adapter or float16"
            )
        self.residual = {
            name: tensor.new_zeros(self._senders, *tensor.shape[1:])
            for name, tensor in stacked.items()
        }


class Encoding:
    """The transform that sends each client's update through a lossy codec."""

    def __init__(self, codec: Codec, clients: int) -> None:
        self._codec = codec
        self.feedback = ErrorFeedback(codec, clients) if isinstance(codec, Int8) else None
        # residuals sit on every row, so every row travels
        self.dense = self.feedback is not None

    def on_user(self, change: Tensors, users: Tensor) -> Tensors:
        """Return what the server receives of the stacked changes."""
        if self.feedback is None:
            return self._codec.through(change)
        return self.feedback.send(change, users)

    def on_mean(self, change: Tensors, clients: int) -> Tensors:
        """Return the mean unchanged: clients' values are decoded before they are added up."""
        return change
