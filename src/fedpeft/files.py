"""Atomic writes and content hashes: a file is there whole, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from fedpeft.errors import ArtifactError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys atomically; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; raises `ArtifactError` when the file is missing or malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or absurdly so
        raise ArtifactError(f"{path} is not valid JSON: {error}") from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors, and text metadata beside them, as one safetensors file, atomically."""
    with atomic_path(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            dict(metadata) if metadata else None,
        )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file; raises `ArtifactError` when it is missing or corrupt."""
    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not a readable safetensors file: {error}") from None


def read_metadata(path: Path) -> dict[str, str]:
    """Read the text metadata of a safetensors file; raises `ArtifactError` like `read_tensors`."""
    with opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file to read single tensors; raises `ArtifactError` as `read_tensors`."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not a readable safetensors file: {error}") from None


def fingerprint(*parts: bytes | str | np.ndarray | torch.Tensor) -> str:
    """Return the SHA-256 (64 hex digits) of the parts: bytes, text, or arrays with their shape."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            part = part.detach().cpu().numpy()
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            part = np.ascontiguousarray(part).tobytes()
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
