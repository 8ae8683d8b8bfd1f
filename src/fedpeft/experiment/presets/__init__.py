"""Presets: TOML files with settings that are chosen by traits of a run's parts.

A file is a list of rules, later ones over earlier ones.  A rule holds settings of the tables
`loss` and `training`, and in `when` the traits that the run's parts must have or lack.  A rule for
all parts may also name the adapter, and hold settings of `items`.  What one part alone needs
otherwise stands on that part, as ``presets`` of its class.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from fedpeft.config import merge
from fedpeft.errors import ConfigError

NONE = "none"
"""The preset that sets nothing."""

TRAITS: Mapping[str, str] = {
    "user_vector": "the backbone's score is linear in a user vector",
    "solves": "a least-squares loss is solved for local parameters, not followed by gradient",
    "peft": "item vectors start at the base",
    "keeps_base": "a client keeps a frozen base that the adapter can be merged into",
    "table": "the payload is the whole item table",
    "linear": "item vectors are linear in the payload",
    "refreshes": "a refresh opens another subspace",
    "shares_rows": "items share rows of a payload tensor",
    "random_rows": "chance decides which items share rows",
}
"""What a rule may ask for, and what it means."""


def names() -> list[str]:
    """Return the presets there are."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return [*sorted(n.removesuffix(".toml") for n in files if n.endswith(".toml")), NONE]


def settings(preset: str, traits: Mapping[str, bool]) -> dict[str, Any]:
    """Return the tables that a preset sets.

    Parameters
    ----------
    traits
        Those known so far, of `TRAITS`; a rule that asks for another does not hold yet.

    Raises
    ------
    ConfigError
        If there is no such preset.
    """
    found: dict[str, Any] = {}
    for rule in rules(preset):
        if rule.get("when", {}).items() <= traits.items():
            found = merge(found, {name: table for name, table in rule.items() if name != "when"})
    return found


def unknown(preset: object) -> ConfigError:
    """Return what is wrong with a preset that there is not."""
    return ConfigError(f"preset = {preset!r}: must be one of {', '.join(names())}")


@cache
def rules(preset: str) -> Sequence[Mapping[str, Any]]:
    """Return the rules of a preset; raises `ConfigError` if there is no such preset."""
    if preset not in names():
        raise unknown(preset)
    if preset == NONE:
        return ()
    text = resources.files(__name__).joinpath(f"{preset}.toml").read_text(encoding="utf-8")
    found: list[Mapping[str, Any]] = tomllib.loads(text)["rules"]
    return found
