"""A lock on a folder: one process at a time, and gone with the process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from fedpeft.errors import ArtifactError
from fedpeft.files import naming

LOCK = "lock"
"""Name of the file, which is in the folder while a process works there."""


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold a folder that exists; yields the lock's file descriptor.

    A process that inherits the descriptor holds the lock as well, as long as it lives.

    Raises
    ------
    ArtifactError
        If another process holds it.
    """
    path = folder / LOCK
    lock = _take(path)
    try:
        with naming(path):
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
        yield lock.fileno()
    finally:
        path.unlink(missing_ok=True)  # before it is let go, so that nobody waits on a lost file
        lock.close()


def _take(path: Path) -> TextIO:
    """Open and lock a file that is at `path` afterwards."""
    while True:
        with naming(path):
            # of another's making it may be a link, whose target must not be cut
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            lock = os.fdopen(os.open(path, flags, 0o666), "a", encoding="ascii")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(lock, path):
                    return lock
            except BlockingIOError:
                lock.close()
                raise ArtifactError(
                    f"{path.parent} is in use by {_holder(path)}; wait for it to end"
                ) from None
            lock.close()  # its holder removed it in between


def _is_at(lock: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        return f"process {int(path.read_text(encoding='ascii'))}"
    except (OSError, ValueError):  # it has only just begun, or just ended
        return "another process"
