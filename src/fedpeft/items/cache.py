"""Results kept by the hash of what they were made from; a damaged entry is noticed and remade."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from fedpeft.errors import ArtifactError
from fedpeft.files import fingerprint, read_json, read_tensors, write_json, write_tensors

Entry = tuple[dict[str, Tensor], dict[str, Any]]
"""Named tensors, and a JSON-able report about them."""

_log = logging.getLogger(__name__)


def default_cache() -> Path:
    """Return ``$FEDPEFT_CACHE``, else ``$XDG_CACHE_HOME/fedpeft``, else ``~/.cache/fedpeft``."""
    own = os.environ.get("FEDPEFT_CACHE")
    if own:
        return Path(own).expanduser()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification: relative paths are to be ignored
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "fedpeft"


def cached(folder: Path | None, kind: str, key: str, compute: Callable[[], Entry]) -> Entry:
    """Return the entry `kind`-`key` of the cache folder; compute and keep it when it is not there.

    An entry is a safetensors file and a JSON file, written last, that holds the report and the
    fingerprint of the tensors.

    Parameters
    ----------
    folder
        None computes without keeping.

    Raises
    ------
    ArtifactError
        If the folder cannot be written.
    """
    if folder is None:
        return compute()
    stem = f"{kind}-{key[:32]}"
    tensor_file, report_file = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    if report_file.exists():
        try:
            return _read(tensor_file, report_file)
        except ArtifactError as error:
            _log.warning("a cache entry is damaged and is made anew: %s", error)
    tensors, report = compute()
    try:
        report_file.unlink(missing_ok=True)  # never an old report beside new tensors
        write_tensors(tensor_file, tensors)
        write_json(report_file, {"sha256": _digest(tensors), "report": report})
    except OSError as error:
        raise ArtifactError(
            f"cache folder {folder} cannot be written ({error.strerror}); set FEDPEFT_CACHE to a "
            "folder that can"
        ) from None
    return tensors, report


def _read(tensor_file: Path, report_file: Path) -> Entry:
    meta = read_json(report_file)
    tensors = read_tensors(tensor_file)
    if not isinstance(meta, dict) or meta.get("sha256") != _digest(tensors):
        raise ArtifactError(f"{tensor_file} does not hold what {report_file.name} says")
    return tensors, meta["report"]


def _digest(tensors: dict[str, Tensor]) -> str:
    return fingerprint(*(part for name in sorted(tensors) for part in (name, tensors[name])))
