"""TOML that we write is the TOML that the standard library reads."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from fedpeft.records.toml import to_toml

KEYS = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
# what a file can hold: half of a surrogate pair is no text in UTF-8
WORDS = st.text(st.characters(exclude_categories=["Cs"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SINGLE = st.one_of(WORDS, st.booleans(), st.integers(-(2**63), 2**63 - 1), FLOATS)
VALUES = st.one_of(SINGLE, st.lists(SINGLE), st.none())
TABLES = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=4),
    lambda inner: st.dictionaries(KEYS, st.one_of(VALUES, inner), max_size=4),
    max_leaves=8,
)


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: without_none(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }


@given(TABLES)
@example({"a": 'quote " backslash \\ delete \x7f bell \x07 line \n é 🎬'})
@example({"a": {"b": {"c": [1e-5, 1e16, -0.0, 2.0]}}, "z": 1})
def test_round_trip(values: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(values)) == without_none(values)
