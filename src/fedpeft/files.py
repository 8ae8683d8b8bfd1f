"""Atomic writes and content hashes: a file is there whole, or not at all.

torch is imported where tensors are read or written, so that what reads text files goes without it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedpeft.errors import ArtifactError
from fedpeft.foreign import parse_json

if TYPE_CHECKING:
    from torch import Tensor

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust, such as safetensors and polars, tell an error of the system."""


@contextmanager
def atomic_path(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block ends well.

    The file and its place in the folder are on the disk when the block has ended.

    Parameters
    ----------
    private
        The file is for its owner alone; otherwise it has the permissions that the umask leaves.

    Raises
    ------
    OSError
        If it cannot be written, with the name of the file; also where a library tells it otherwise.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        os.close(os.open(temporary, flags, 0o600 if private else 0o666))
        mode = temporary.stat().st_mode
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fchmod(written.fileno(), mode)  # a library may have put a file of its own here
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within the block, errors of the system become `OSError` that name `path`.

    One that names a file of another folder stays as it is.
    """
    try:
        yield
    except Exception as error:
        number = None
        if isinstance(error, OSError):
            if error.filename and Path(error.filename).parent != path.parent:
                raise
            number = error.errno
        if number is None and (told := _OS_ERROR.search(str(error))):
            number = int(told[1])
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def sync_folder(folder: Path) -> None:
    """Put on the disk which files a folder has; some file systems cannot, and need not."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys atomically; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; raises `ArtifactError` when the file is missing, or as `parse_json`."""
    return parse_json(read_bytes(path), f"{path}")


def read_bytes(path: Path) -> bytes:
    """Read a file; raises `ArtifactError` when it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    private: bool = False,
) -> None:
    """Write tensors, and text metadata beside them, as one safetensors file, as `atomic_path`."""
    from safetensors.torch import save_file

    with atomic_path(path, private=private) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            dict(metadata) if metadata else None,
        )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; raises `ArtifactError` when it is missing or corrupt."""
    from safetensors.torch import load_file

    with _readable(path):
        return dict(load_file(path))


def read_metadata(path: Path) -> dict[str, str]:
    """Read the text metadata of a safetensors file; raises `ArtifactError` like `read_tensors`."""
    with opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file to read single tensors; raises `ArtifactError` as `read_tensors`."""
    from safetensors import safe_open

    with _readable(path), safe_open(path, framework="pt") as file:
        yield file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not a readable safetensors file: {error}") from None


def fingerprint(*parts: bytes | str | np.ndarray | Tensor) -> str:
    """Return the SHA-256 (64 hex digits) of the parts: bytes, text, or arrays with their shape."""
    digest = hashlib.sha256()
    for part in parts:
        if not isinstance(part, bytes | str | np.ndarray):
            part = part.detach().cpu().numpy()
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            part = np.ascontiguousarray(part).tobytes()
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
