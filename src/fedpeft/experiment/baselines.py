"""Baselines depend on the split alone, so runs on one split share them."""

from __future__ import annotations

from typing import Any

from fedpeft import __version__
from fedpeft.data import Split
from fedpeft.data.recency import RecencyConfig
from fedpeft.errors import ArtifactError
from fedpeft.evaluation import baseline_names, baselines
from fedpeft.files import fingerprint, read_json, write_json
from fedpeft.items import default_cache
from fedpeft.records.result import check_baselines


def cached_baselines(split: Split, *, centralised: bool, recency: RecencyConfig) -> dict[str, Any]:
    """Return the baselines of a split, computed once per version and kept in the cache."""
    names = baseline_names(split, centralised=centralised)
    settings = f"centralised={centralised} {recency!r}"
    key = fingerprint(split.fingerprint, __version__, settings)
    path = default_cache() / "baselines" / f"{key}.json"
    if path.exists():
        try:
            found: dict[str, Any] = read_json(path)
            if check_baselines(found, f"{path}").keys() == set(names):
                return found
        except ArtifactError:
            pass  # a damaged cache entry is computed again
    found = baselines(split, centralised=centralised, recency=recency)
    write_json(path, found)
    return found
