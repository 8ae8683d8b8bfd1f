"""What may come from strangers: texts, JSON, TOML, and folders that someone sent.

Nothing here trusts what it reads.  What cannot be used ends in one sentence; texts that can are
made harmless for whoever looks at them.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from fedpeft.errors import ArtifactError

DEEPEST = 50
"""Tables and lists inside each other; no file of this project comes near it."""

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def printable(text: str) -> str:
    """Return text with every control character as an escape, such as ``\\x1b``.

    A terminal acts on such characters, and some of them turn around what follows.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def all_printable(value: Any) -> Any:
    """Return a value of JSON with every text in it, keys too, made `printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [all_printable(each) for each in value]
    if isinstance(value, dict):
        return {printable(key): all_printable(each) for key, each in value.items()}
    return value


def parse_json(text: str | bytes, where: str) -> Any:
    """Parse JSON.

    Raises
    ------
    ArtifactError
        If it is not JSON, holds a number that no float can hold, or is nested absurdly deep.
    """
    try:
        value = json.loads(
            text, parse_float=_number, parse_int=_whole_number, parse_constant=_no_number
        )
        check_depth(value)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where} is not valid JSON: {error}") from None
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises
    ------
    ValueError
        If it is not TOML, holds a whole number of more than 64 bits, or is nested absurdly deep.
    """
    try:
        values = tomllib.loads(text)
        check_depth(values)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_width(values)
    return values


_TOO_DEEP = f"more than {DEEPEST} tables and lists are inside each other"


def check_depth(value: Any, most: int = DEEPEST) -> None:
    """Raise `ValueError` where more than `most` tables and lists are inside each other."""
    if isinstance(value, dict | list):
        if most == 0:
            raise ValueError(_TOO_DEEP)
        for each in value.values() if isinstance(value, dict) else value:
            check_depth(each, most - 1)


def _check_width(value: Any) -> None:
    """Raise `ValueError` for a whole number that TOML has no room for, but Python has."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number does not fit into 64 bits")
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _check_width(each)


def _number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _whole_number(text: str) -> int:
    _number(text)
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]}{'…' if len(text) > 20 else ''} is no finite number")


def require_plain(folder: Path, *, but: str | None = None) -> None:
    """Raise `ArtifactError` unless all that a folder holds are files and folders.

    A named pipe would block whoever opens it, and a link may lead a write anywhere.  `but` is the
    name of what may be something else, because nobody opens it.
    """
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if name == but:
                continue
            path = Path(place, name)
            kind = _KINDS.get(stat.S_IFMT(path.lstat().st_mode))
            if kind is not None:
                raise ArtifactError(
                    f"{path} is {kind}, which run and sweep folders must not hold; put a file or "
                    "folder there, or remove it"
                )
