"""How tensors become bytes: float32, float16, and 8 or 4 bits with a scale per block of 64 values.

The wire format is the values themselves, little-endian, tensor after tensor in the order of their
names.  Names and shapes are agreed once, so they do not travel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from fedpeft.memory import in_cache
from fedpeft.protocol.wire import MessageError
from fedpeft.tensors import Tensors

Shapes = Mapping[str, torch.Size]
BLOCK = 64


class Codec(ABC):
    """Turns named tensors into bytes and back."""

    lossless: ClassVar[bool] = False

    @abstractmethod
    def parts(self, stacked: Tensor, dither: Tensor | None = None) -> list[Tensor]:
        """Return what travels for C tensors of N values, float32 (C, N), as tensors (C, ...).

        `dither`, float (C, N) in [0, 1), is what codecs of few bits round by; without it they
        round to the nearest.
        """

    @abstractmethod
    def join(self, parts: list[Tensor], values: int) -> Tensor:
        """Undo `parts`, float32 (C, N) with N = `values`."""

    @abstractmethod
    def layout(self, values: int) -> list[tuple[torch.dtype, int]]:
        """Return dtype and length of each part for a tensor of `values` values."""

    def encode(
        self, tensors: Mapping[str, Tensor], dither: Mapping[str, Tensor] | None = None
    ) -> bytes:
        """Return the bytes that travel for `tensors` (float32, any shape).

        `dither` has float (1, N) in [0, 1) for each tensor of N values; see `parts`.
        """
        found = []
        for name in sorted(tensors):
            flat = tensors[name].detach().float().reshape(1, -1)
            found += self.parts(flat, None if dither is None else dither[name])
        return b"".join(part.cpu().numpy().tobytes() for part in found)

    def size(self, shapes: Shapes) -> int:
        """Return how many bytes `encode` makes of tensors of these shapes."""
        return sum(
            dtype.itemsize * length
            for shape in shapes.values()
            for dtype, length in self.layout(shape.numel())
        )

    def decode(self, data: bytes, shapes: Shapes) -> Tensors:
        """Undo `encode`; raises `MessageError` when `data` is not as long as it must be."""
        expected = self.size(shapes)
        if len(data) != expected:
            raise MessageError(f"payload has {len(data)} bytes, its layout takes {expected}")
        tensors, start = {}, 0
        for name in sorted(shapes):
            parts = []
            for dtype, length in self.layout(shapes[name].numel()):
                end = start + dtype.itemsize * length
                raw = bytearray(data[start:end])
                part = torch.frombuffer(raw, dtype=dtype) if raw else torch.zeros(0, dtype=dtype)
                parts.append(part.unsqueeze(0))
                start = end
            tensors[name] = self.join(parts, shapes[name].numel()).reshape(shapes[name])
        return tensors

    def through(self, stacked: Mapping[str, Tensor]) -> Tensors:
        """Return what arrives when each of C clients sends its tensors, name -> float (C, ...).

        Equals encoding and decoding client by client.
        """
        arrived = {}
        for name, tensor in stacked.items():
            flat = tensor.unsqueeze(-1).flatten(1)
            arrived[name] = self.join(self.parts(flat), flat.shape[1]).reshape(tensor.shape)
        return arrived


class Float32(Codec):
    """Values as they are."""

    lossless = True

    def parts(self, stacked: Tensor, dither: Tensor | None = None) -> list[Tensor]:
        return [stacked]

    def join(self, parts: list[Tensor], values: int) -> Tensor:
        return parts[0]

    def layout(self, values: int) -> list[tuple[torch.dtype, int]]:
        return [(torch.float32, values)]


class Float16(Codec):
    """Values rounded to half precision, clamped to its range."""

    def parts(self, stacked: Tensor, dither: Tensor | None = None) -> list[Tensor]:
        limit = torch.finfo(torch.float16).max
        return [stacked.clamp(-limit, limit).half()]

    def join(self, parts: list[Tensor], values: int) -> Tensor:
        return parts[0].float()

    def layout(self, values: int) -> list[tuple[torch.dtype, int]]:
        return [(torch.float16, values)]


class Blocks(Codec):
    """Each block of 64 values as small integers times one float32 scale.

    Attributes
    ----------
    most
        The largest integer; the scale is the block's largest value divided by it.
    """

    most: ClassVar[int]

    @abstractmethod
    def pack(self, whole: Tensor) -> Tensor:
        """Return what travels for integers, int8 (C, N)."""

    @abstractmethod
    def unpack(self, packed: Tensor, values: int) -> Tensor:
        """Undo `pack`, int8 (C, N) with N = `values`."""

    def parts(self, stacked: Tensor, dither: Tensor | None = None) -> list[Tensor]:
        blocks = _blocks(stacked)
        scales = [self._scales(block) for block in blocks]
        whole = [block / _divisor(scale) for block, scale in zip(blocks, scales, strict=True)]
        if dither is None:
            whole = [block.round_() for block in whole]
        else:
            added = _blocks(dither)
            whole = [
                block.add_(own).floor_().clamp_(-self.most, self.most)
                for block, own in zip(whole, added, strict=True)
            ]
        flat = torch.cat([block.flatten(1) for block in whole], 1)
        return [torch.cat(scales, 1), self.pack(flat.to(torch.int8))]

    def dithered(self, stacked: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return what arrives of values that are rounded up or down as a dither has it.

        A value goes up where its height above the integer below, and its dither in [0, 1), make a
        whole; the dither is that of its row plus that of its column, modulo 1.

        Parameters
        ----------
        stacked
            float32 (C, N).
        rows
            float (C,) in [0, 1).
        columns
            float (N,) in [0, 1).
        """
        arrived = torch.empty_like(stacked)
        at_once = in_cache(stacked.shape[1], stacked.device)
        for start in range(0, len(stacked), at_once):
            part = slice(start, start + at_once)
            dither = (rows[part].unsqueeze(1) + columns).frac_()
            blocks = (_blocks(tensor) for tensor in (stacked[part], dither, arrived[part]))
            for block, added, out in zip(*blocks, strict=True):
                scale = self._scales(block)
                # what `parts` would send, without the cast
                torch.div(block, _divisor(scale), out=out)
                out.add_(added).floor_().clamp_(-self.most, self.most).mul_(scale.unsqueeze(-1))
        return arrived

    def join(self, parts: list[Tensor], values: int) -> Tensor:
        scales, packed = parts
        return self.unpack(packed, values) * scales.repeat_interleave(BLOCK, dim=1)[:, :values]

    def _scales(self, block: Tensor) -> Tensor:
        """Return the scales of blocks, (C, B) of (C, B, size)."""
        return torch.maximum(block.amax(-1), -block.amin(-1)) / self.most


class Int8(Blocks):
    """Each block of 64 values as integers from -127 to 127."""

    most = 127

    def pack(self, whole: Tensor) -> Tensor:
        return whole

    def unpack(self, packed: Tensor, values: int) -> Tensor:
        return packed

    def layout(self, values: int) -> list[tuple[torch.dtype, int]]:
        return [(torch.float32, -(-values // BLOCK)), (torch.int8, values)]


class Int4(Blocks):
    """Each block of 64 values as integers from -7 to 7, two to a byte, low bits first."""

    most = 7

    def pack(self, whole: Tensor) -> Tensor:
        halves = F.pad(whole, (0, whole.shape[1] % 2)).view(torch.uint8) & 15
        return halves[:, ::2] | (halves[:, 1::2] << 4)

    def unpack(self, packed: Tensor, values: int) -> Tensor:
        halves = torch.stack([packed & 15, packed >> 4], -1).flatten(1)[:, :values]
        return (halves.view(torch.int8) ^ 8) - 8  # the sign of four bits

    def layout(self, values: int) -> list[tuple[torch.dtype, int]]:
        return [(torch.float32, -(-values // BLOCK)), (torch.uint8, -(-values // 2))]


def _blocks(stacked: Tensor) -> list[Tensor]:
    """Return views of (C, N): (C, B, 64) of its whole blocks, and (C, 1, rest) of what is left."""
    blocks, rest = divmod(stacked.shape[1], BLOCK)
    whole = stacked[:, : blocks * BLOCK].unflatten(1, (blocks, BLOCK))
    return [whole, stacked[:, blocks * BLOCK :].unsqueeze(1)] if rest else [whole]


def _divisor(scale: Tensor) -> Tensor:
    """Return what turns values into steps, (C, B, 1); a block of zeros stays one."""
    return scale.clamp(min=1e-30).unsqueeze(-1)


CODECS: dict[str, type[Codec]] = {
    "float32": Float32,
    "float16": Float16,
    "int8": Int8,
    "int4": Int4,
}
