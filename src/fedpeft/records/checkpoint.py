"""``checkpoint/state.safetensors``: all that the next round needs, in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedpeft.errors import ArtifactError, RunError
from fedpeft.files import fingerprint, read_metadata, read_tensors, write_tensors
from fedpeft.foreign import parse_json
from fedpeft.records.base import Record

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """A state: JSON values and named tensors, under one checksum.

    A checkpoint of another schema is refused, because a state that means something else cannot be
    gone on with exactly.
    """

    FILE: ClassVar[str] = "checkpoint/state.safetensors"
    SCHEMA: ClassVar[int] = 3

    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def write(self, path: Path) -> None:
        """Write it atomically and for its owner alone: it has every client's local parameters.

        Raises
        ------
        RunError
            If a tensor is not finite; what is at `path` stays, since a run that goes on from such
            a state can only end the same way.
        """
        broken = [name for name, tensor in self.tensors.items() if not tensor.isfinite().all()]
        if broken:
            more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
            kept = "; the last one stays" if path.exists() else ""
            raise RunError(
                f"{broken[0]}{more} became infinite or NaN, so no checkpoint was written{kept}; "
                "lower the learning rates (training.server_optimizer.lr, "
                "training.local_optimizer.lr)"
            )
        metadata = {"fedpeft": json.dumps({"schema": self.SCHEMA, **self.values})}
        metadata["sha256"] = _digest(metadata["fedpeft"], self.tensors)
        write_tensors(path, self.tensors, metadata, private=True)

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read it; raises `ArtifactError` if it is missing, corrupt, or of another schema."""
        import torch

        known = (torch.float32, torch.int64, torch.int32, torch.uint8)
        metadata = read_metadata(path)
        foreign = f"{path} is not a fedpeft checkpoint"
        values = parse_json(metadata.get("fedpeft", "null"), f"{foreign}: its head")
        if not isinstance(values, dict) or "schema" not in values:
            raise ArtifactError(foreign)
        schema = values.pop("schema")
        if schema != cls.SCHEMA:
            earlier = isinstance(schema, int) and schema < cls.SCHEMA
            advice = ", so an earlier version made it; run its config.toml anew" if earlier else ""
            raise ArtifactError(
                f"{path} has checkpoint schema {schema!r}; this version reads {cls.SCHEMA}{advice}"
            )
        tensors = read_tensors(path)
        for name, tensor in tensors.items():
            if tensor.dtype not in known:
                raise ArtifactError(
                    f"{path}: tensor {name!r} is {tensor.dtype}, which no state has"
                )
        if _digest(metadata["fedpeft"], tensors) != metadata.get("sha256"):
            raise ArtifactError(f"{path} is corrupt: its contents do not match their checksum")
        return cls(values, tensors)


def _digest(values: str, tensors: Mapping[str, Tensor]) -> str:
    named = (part for name in sorted(tensors) for part in (name, tensors[name]))
    return fingerprint(values, *named)


class Notes(Record):
    """What an experiment keeps beside the state.

    Attributes
    ----------
    seconds
        Of training so far.
    split
        Fingerprint of the split.
    model
        Tables of settings that must not change, by name.
    base
        Fingerprint of the items' base; checkpoints of before it was kept have none.
    backend
        What the last rounds were computed with.
    """

    seconds: float
    split: str
    model: dict[str, Any]
    base: str | None = None
    backend: Literal["sequential", "fused", "vmap"] | None = None
