"""Results kept by the hash of what they were made from; a damaged entry is noticed and remade."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fedpeft.errors import ArtifactError
from fedpeft.files import read_json, write_json
from fedpeft.items.state import State, read_state

_log = logging.getLogger(__name__)


def default_cache() -> Path:
    """Return ``$FEDPEFT_CACHE``, else ``$XDG_CACHE_HOME/fedpeft``, else ``~/.cache/fedpeft``."""
    own = os.environ.get("FEDPEFT_CACHE")
    if own:
        return Path(own).expanduser()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification: relative paths are to be ignored
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "fedpeft"


def cached(folder: Path | str | None, kind: str, key: str, compute: Callable[[], State]) -> State:
    """Return the entry `kind`-`key` of the cache folder; compute and keep it when it is not there.

    An entry is a safetensors file and a JSON file, written last, that describes it.

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
    folder, stem = Path(folder), f"{kind}-{key[:32]}"
    tensor_file, report_file = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    if report_file.exists():
        try:
            return read_state(tensor_file, read_json(report_file))
        except ArtifactError as error:
            _log.warning("a cache entry is damaged and is made anew: %s", error)
    state = compute()
    try:
        report_file.unlink(missing_ok=True)  # never an old report beside new tensors
        state.write(tensor_file)
        write_json(report_file, state.description())
    except OSError as error:
        raise ArtifactError(
            f"cache folder {folder} cannot be written ({error.strerror}); set FEDPEFT_CACHE to a "
            "folder that can"
        ) from None
    return replace(state, file=tensor_file)
