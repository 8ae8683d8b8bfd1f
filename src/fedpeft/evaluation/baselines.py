"""The baselines of every report: what a model must beat to be worth its bytes.

*Popularity* uses no personal data beyond counts.  *iALS* and *EASE* are what a server that holds
all the data gets from two simple strong models: a matrix factorisation, and item-to-item weights
without a bottleneck.  Both choose their settings by full-ranking NDCG@10 on validation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from fedpeft.data.dataset import Split
from fedpeft.data.recency import RecencyConfig
from fedpeft.errors import RunError, renamed
from fedpeft.evaluation.als import ALSConfig, fit_als, solve_users
from fedpeft.evaluation.ease import MOST_ITEMS, EASEConfig, ease_scorer, gram_of, item_weights
from fedpeft.evaluation.protocol import Holdout, Scorer, evaluate

_PARTS: tuple[Holdout, ...] = ("validation", "test")
_WIDTHS = (32, 64, 128, 256)  # factors of iALS, tried in this order as long as each is better
_MOST_WORK = 1e12  # multiply-adds of a fit above which no wider one is tried

Scorers = Callable[[Holdout], Scorer]
"""Returns the scorer of a fitted model that knows what comes before the held-out item of a part."""

C = TypeVar("C", ALSConfig, EASEConfig)


def popularity(split: Split) -> Scorer:
    """Return the scorer that gives every user the items' training counts, weighted by event."""
    weights = split.train.weights
    counts = torch.bincount(
        torch.from_numpy(split.train.items),
        None if weights is None else torch.from_numpy(weights),
        minlength=split.n_items,
    )
    scores = counts.to(torch.float32)
    return lambda users: scores.expand(len(users), -1)


def ials_scorers(split: Split, config: ALSConfig, *, seed: int = 0) -> Scorers:
    """Fit a centralised implicit matrix factorisation.

    Item vectors are trained on ``split.train`` alone.  User vectors are solved from all that comes
    before the held-out item, as federated clients do (`Split.before`).

    Raises
    ------
    RunError
        If a ridge system cannot be solved in float32 (regularisation too small).
    """
    _, items = fit_als(split.train, split.n_items, config, seed)

    def scorer(part: Holdout) -> Scorer:
        users = solve_users(items, split.before(part), config)
        return lambda rows: users[rows] @ items.T

    return scorer


def ease_scorers(split: Split, config: EASEConfig, gram: Tensor | None = None) -> Scorers:
    """Fit the closed-form item-to-item weights; the Gram matrix is made where it is not given.

    Raises
    ------
    RunError
        If the system cannot be solved in float32 (regularisation too small).
    """
    if gram is None:
        gram = gram_of(split.train, split.n_items)
    weights = item_weights(gram, config.regularisation)
    return lambda part: ease_scorer(weights, split.before(part), config.recency)


def choose_als(split: Split, start: ALSConfig, *, seed: int = 0) -> ALSConfig:
    """Choose the settings of the matrix factorisation by full-ranking NDCG@10 on validation.

    With 32 factors, lambda and then a0 are doubled or halved as long as that helps.  Then the
    factors are doubled as long as that helps, up to 256 or to what the size of the data allows.
    More factors may need more regularisation, so lambda is doubled once more if that helps.
    """

    def quality(config: ALSConfig) -> float:
        return _quality(ials_scorers(split, config, seed=seed), split)

    best = start.model_copy(update={"dim": _WIDTHS[0]})
    reached = quality(best)
    for key in ("regularisation", "unobserved_weight"):
        reached, best = _climb(reached, best, key, quality)
    for dim in _WIDTHS[1:]:
        wider = best.model_copy(update={"dim": dim})
        if wider.work(split.statistics) > _MOST_WORK or (found := quality(wider)) <= reached:
            break
        reached, best = found, wider
    stronger = best.model_copy(update={"regularisation": 2 * best.regularisation})
    return stronger if quality(stronger) > reached else best


def choose_ease(split: Split, start: EASEConfig, gram: Tensor) -> EASEConfig:
    """Choose lambda of EASE by full-ranking NDCG@10 on validation.

    From that of `start` it is doubled or halved as long as that helps.
    """

    def quality(config: EASEConfig) -> float:
        return _quality(ease_scorers(split, config, gram), split)

    return _climb(quality(start), start, "regularisation", quality)[1]


def _climb(reached: float, best: C, key: str, quality: Callable[[C], float]) -> tuple[float, C]:
    """Double a setting as long as that helps; where it never does, halve it as long as that does.

    `reached` is the quality of `best`.  Returns those of the best settings found.
    """
    start = best
    for factor in (2.0, 0.5):
        while True:
            changed = best.model_copy(update={key: factor * getattr(best, key)})
            try:
                found = quality(changed)
            except RunError:  # too little regularisation for float32
                break
            if found <= reached:
                break
            reached, best = found, changed
        if best is not start:
            break
    return reached, best


def baseline_names(split: Split, *, centralised: bool = True) -> list[str]:
    """Return the names of the baselines that a split gets."""
    names = ["popularity", *(["ials", "ease"] if centralised else [])]
    return [name for name in names if name != "ease" or split.n_items <= MOST_ITEMS]


def left_out_baselines(split: Split) -> list[str] | None:
    """Return a sentence for each centralised baseline that a split is too large for, or None."""
    if split.n_items <= MOST_ITEMS:
        return None
    return [
        f"EASE is left out: it needs matrices of items by items, and {split.n_items:,} items are "
        f"more than the {MOST_ITEMS:,} for which they are made."
    ]


@renamed(centralised_mf="centralised")
def baselines(
    split: Split,
    seed: int = 0,
    *,
    centralised: bool = True,
    tune: bool = True,
    recency: RecencyConfig | None = None,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Evaluate the baselines on both parts.

    Parameters
    ----------
    split
        The leave-one-out split.
    seed
        Seed of the matrix factorisation.
    centralised
        Pass False to leave out those that need all data in one place, iALS and EASE.
        For a million interactions and 3,700 items both take about a minute on two cores.  Memory
        is ``3 * items^2`` floats for EASE, and ``(users + items) * dim`` floats plus 40 bytes for
        each interaction for iALS.
    tune
        Choose their settings on validation.
    recency
        How the age of an interaction weighs it in these models: the model that they are held
        against should know no more.

    Returns
    -------
    dict
        By name (see `baseline_names`), ``{"validation": report, "test": report}``, each report as
        by `Report.to_dict`; ``ials`` and ``ease`` also have ``settings``.
    """
    recency = recency or RecencyConfig()
    popular = popularity(split)
    found = {"popularity": _both_parts(lambda _: popular, split)}
    names = baseline_names(split, centralised=centralised)
    if "ials" in names:
        als = ALSConfig.by_rule(split.statistics, recency=recency)
        als = choose_als(split, als, seed=seed) if tune else als
        fitted = ials_scorers(split, als, seed=seed)
        found["ials"] = _both_parts(fitted, split) | {"settings": als.model_dump()}
    if "ease" in names:
        gram = gram_of(split.train, split.n_items)
        ridge = EASEConfig.by_rule(gram, recency=recency)
        ridge = choose_ease(split, ridge, gram) if tune else ridge
        fitted = ease_scorers(split, ridge, gram)
        found["ease"] = _both_parts(fitted, split) | {"settings": ridge.model_dump()}
    return found


def _quality(scorers: Scorers, split: Split) -> float:
    return evaluate(scorers("validation"), split, "validation").full["ndcg@10"]


def _both_parts(scorers: Scorers, split: Split) -> dict[str, dict[str, Any]]:
    return {part: evaluate(scorers(part), split, part).to_dict() for part in _PARTS}
