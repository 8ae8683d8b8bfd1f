"""State: what fitting found, as named tensors and JSON-able settings that a file can hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedpeft.errors import ArtifactError
from fedpeft.files import fingerprint, opened, read_tensors, write_tensors


@dataclass(frozen=True, eq=False)
class State:
    """What fitting found: named tensors, and settings that JSON can hold.

    Attributes
    ----------
    tensors
        Of any shape and of a dtype that numpy knows; floating-point values are finite.
    settings
        Numbers, texts, lists and tables; no NaN and no infinities.
    file
        The safetensors file that the tensors were read from or written to, if any.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None

    @property
    def where(self) -> str:
        """What a message calls it."""
        return "a fitted state" if self.file is None else str(self.file)

    def tensor(self, name: str, *shape: int | None, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return a tensor whose dtype and shape are as expected.

        Parameters
        ----------
        shape
            One number per dimension; None stands for any.

        Raises
        ------
        ArtifactError
            If there is no such tensor, or its dtype or shape differs.
        """
        found = self.tensors.get(name)
        if found is None:
            raise ArtifactError(f"{self.where} lacks the tensor {name!r}")
        fits = len(shape) == found.ndim and all(
            wanted in (None, size) for wanted, size in zip(shape, found.shape, strict=True)
        )
        if not fits or found.dtype != dtype:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ArtifactError(
                f"{self.where}: tensor {name!r} must be {dtype} of shape ({wanted}), "
                f"is {found.dtype} of shape {tuple(found.shape)}"
            )
        return found

    def part(self, prefix: str) -> State:
        """Return the tensors whose names begin with `prefix`, under the rest of their names."""
        tensors = {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }
        return State(tensors, file=self.file)

    def with_part(self, prefix: str, other: State) -> State:
        """Return this state with the tensors of another, whose names then begin with `prefix`."""
        added = {prefix + name: tensor for name, tensor in other.tensors.items()}
        return State({**self.tensors, **added}, self.settings)

    def description(self) -> dict[str, Any]:
        """Return what is written as JSON beside the tensors: settings and a checksum of both."""
        settings = dict(self.settings)
        parts = (part for name in sorted(self.tensors) for part in (name, self.tensors[name]))
        text = json.dumps(settings, sort_keys=True, allow_nan=False)
        return {"sha256": fingerprint(text, *parts), "settings": settings}

    def released(self) -> State:
        """Return the same state without its tensors in memory, if a file holds them.

        They are read again whenever they are asked for, which is seldom: a vocabulary and its
        projection take 100 MB, and training does not look at them.
        """
        return self if self.file is None else replace(self, tensors=_OnDisk(self.file))

    def write(self, path: Path) -> None:
        """Write the tensors to a safetensors file, atomically.

        Tensors that a file holds already are linked, where the file system can: a vocabulary and
        its projection take 100 MB, and each run of a sweep has the same.
        """
        if self.file is None or not _linked(self.file, path):
            write_tensors(path, self.tensors)


class _OnDisk(Mapping[str, Tensor]):
    """The tensors of a safetensors file, read when they are asked for and not kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, name: str) -> Tensor:
        with opened(self._path) as file:
            if name not in file.keys():  # noqa: SIM118 - it is no mapping
                raise KeyError(name)
            found: Tensor = file.get_tensor(name)
            return found

    def __iter__(self) -> Iterator[str]:
        with opened(self._path) as file:
            return iter(list(file.keys()))

    def __len__(self) -> int:
        return len(list(iter(self)))


def read_state(path: Path, description: Any) -> State:
    """Read a state from its safetensors file and its description.

    Raises
    ------
    ArtifactError
        If the file is missing or corrupt, is not the one described, or holds NaN or infinities.
    """
    if not isinstance(description, dict) or not isinstance(description.get("settings"), dict):
        raise ArtifactError(f"{path} is described by {description!r}, which is no settings table")
    state = State(read_tensors(path), description["settings"], path)
    try:
        intact = state.description()["sha256"] == description.get("sha256")
    except (TypeError, ValueError):  # a dtype unknown to numpy; NaN, which Python's JSON reads
        intact = False
    if not intact:
        raise ArtifactError(f"{path} is not the file that its JSON file describes")
    for name, tensor in state.tensors.items():
        if not torch.isfinite(tensor).all():
            raise ArtifactError(f"{path}: tensor {name!r} holds NaN or infinities")
    return state


def pack(texts: Sequence[str]) -> Tensor:
    """Return texts as one uint8 tensor: a JSON list in ASCII."""
    data = json.dumps(list(texts)).encode()
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def unpack(packed: Tensor) -> list[str]:
    """Return the texts that `pack` put into a tensor; raises `ArtifactError` if there are none."""
    try:
        texts = json.loads(packed.numpy().tobytes())
    except ValueError:
        texts = None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ArtifactError("a tensor of texts does not hold a JSON list of texts")
    return texts


def _linked(source: Path, path: Path) -> bool:
    """Make `path` another name of the file `source`, atomically; return whether that worked."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, temporary)
        temporary.replace(path)
    except OSError:  # another file system, one without links, or the file is gone
        return False
    finally:
        temporary.unlink(missing_ok=True)  # it stays where `path` was that file already
    return True
