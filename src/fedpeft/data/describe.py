"""A data set in numbers, and what reading did to it in sentences."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedpeft.data.clean import TIED
from fedpeft.data.dataset import Dataset

_DROPPED = {
    "low_rated_dropped": "with a low rating",
    "other_events_dropped": "of other events",
    "unknown_items_dropped": "with unknown items",
    "duplicates_dropped": "repeated",
    "interactions_of_dropped_users": "of users with too few items",
}
"""Counts of interactions that cleaning has dropped, and which they were."""


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return sizes, density, history lengths, text coverage and reading counts, ready for JSON.

    Density and coverage are shares in [0, 1]; ``history`` holds quantiles of the number of
    interactions per user, ``popularity`` of the number per item, ``words`` the median words a text,
    ``ties`` the shares of users whose test and validation item a tie of times decided.
    """
    lengths = dataset.histories.lengths()
    per_item = np.bincount(dataset.histories.items, minlength=dataset.n_items)
    words = np.array([len(text.split()) for text in dataset.catalogue.texts], np.int64)
    return {
        "name": dataset.name,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": int(lengths.sum()),
        "density": float(lengths.sum() / max(1, dataset.n_users * dataset.n_items)),
        "history": _quantiles(lengths),
        "popularity": _quantiles(per_item),
        "text_coverage": float((words > 0).mean()) if len(words) else 0.0,
        "words": float(np.median(words)) if len(words) else 0.0,
        "order": dataset.order,
        "ties": _ties(dataset),
        "counts": dict(dataset.counts),
        "notes": told(dataset)[1:],
    }


def told(dataset: Dataset) -> list[str]:
    """Return sentences: what cleaning kept and dropped, and what else the user should know."""
    counts, kept = dataset.counts, len(dataset.histories.items)
    read = counts.get("interactions_read")
    of = "" if read is None else f"of {read:,} "
    dropped = [f"{n:,} {which}" for key, which in _DROPPED.items() if (n := counts.get(key, 0))]
    first = (
        f"{dataset.name}: {kept:,} {of}interactions, of {dataset.n_users:,} users with "
        f"{dataset.n_items:,} items"
    )
    if dropped:
        first += f"; dropped were {', '.join(dropped)}"
    return [first, *dataset.notes, *_on_order(dataset)]


def _on_order(dataset: Dataset) -> list[str]:
    """Return what there is to say on how interactions are ordered."""
    if dataset.order == "none":
        return [
            "interactions are in no order: which items are held out is drawn at random, and none "
            "is weighted by its age"
        ]
    ties = _ties(dataset)
    if not ties.get("test"):
        return []
    return [
        f"for {ties['test']:.1%} of the users a tie of times decided the test item, for "
        f"{ties['validation']:.1%} the validation item; data.ties says how"
    ]


def _ties(dataset: Dataset) -> dict[str, float]:
    """Return the shares of users whose held-out items a tie decided; empty where none can."""
    return {
        part: dataset.counts[key] / max(1, dataset.n_users)
        for part, key in zip(("test", "validation"), TIED, strict=True)
        if key in dataset.counts
    }


def _quantiles(values: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
    if len(values) == 0:
        return {}
    names = {"min": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "max": 1.0}
    return {name: float(np.quantile(values, q)) for name, q in names.items()}
