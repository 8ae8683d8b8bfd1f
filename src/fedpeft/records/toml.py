"""Writing settings as TOML; the standard library only reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def to_toml(values: Mapping[str, Any], prefix: str = "") -> str:
    """Return `values` as TOML: plain keys first, then one table per mapping.

    TOML has no null, so keys whose value is None are left out: they are what the default is.
    """
    lines = [
        f"{_key(key)} = {_value(value)}"
        for key, value in values.items()
        if not isinstance(value, Mapping) and value is not None
    ]
    text = "".join(line + "\n" for line in lines)
    for key, value in values.items():
        if isinstance(value, Mapping):
            name = f"{prefix}{_key(key)}"
            text += f"\n[{name}]\n{to_toml(value, name + '.')}"
    return text


def _key(key: str) -> str:
    """Return a key, quoted where its signs ask for it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    # JSON's strings, numbers and booleans are TOML's, but for the delete character, which JSON
    # leaves as it is; 1e-05 is a float in both
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
