"""How the program ends: one line on standard error, and an exit code."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from fedpeft.foreign import printable

_LONGEST = 2000
"""Characters of a sentence; what is quoted in it may come from a file of any size."""


def leave(sentence: str, exit_code: int) -> NoReturn:
    """Print one line and exit; what other libraries said may have more than one."""
    line = printable(" ".join(sentence.split()))
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"
    with suppress(OSError):  # the terminal may have been closed
        print(f"fedpeft: {line}", file=sys.stderr, flush=True)
    sys.exit(exit_code)


def silence_output() -> None:
    """Let what standard output could not take go nowhere, so that nothing more is said of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
