"""A data set in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedpeft.data.dataset import Dataset


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return sizes, density, history lengths, text coverage and reading counts, ready for JSON.

    Density and coverage are shares in [0, 1]; ``history`` holds quantiles of the number of
    interactions per user, ``popularity`` of the number per item, ``words`` the median words a text.
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
        "counts": dict(dataset.counts),
    }


def _quantiles(values: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
    if len(values) == 0:
        return {}
    names = {"min": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "max": 1.0}
    return {name: float(np.quantile(values, q)) for name, q in names.items()}
