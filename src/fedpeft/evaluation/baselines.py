"""The baselines of every report: what a model must beat to be worth its bytes.

*Popularity* uses no personal data beyond counts; *centralised matrix factorisation* is what a
server holding all the data would get from the simplest strong model.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from fedpeft.data.dataset import Split
from fedpeft.data.recency import RecencyConfig
from fedpeft.evaluation.als import ALSConfig, fit_als, solve_users
from fedpeft.evaluation.protocol import Holdout, Scorer, evaluate

_PARTS: tuple[Holdout, ...] = ("validation", "test")
_WEIGHTS = (0.005, 0.02, 0.1, 0.4)  # from very sparse to dense data
_REGULARISATIONS = (0.5, 5.0)  # tried beside the default, at the best weight


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


def matrix_factorisation(
    split: Split,
    config: ALSConfig | None = None,
    part: Holdout = "validation",
    *,
    seed: int = 0,
    tune: bool = False,
) -> Scorer:
    """Return the scorer of a centralised implicit matrix factorisation.

    Parameters
    ----------
    split
        Item vectors are trained on ``split.train`` alone; user vectors are solved from all that
        comes before the held-out item, as federated clients do (`Split.before`).
    config
        Settings; with `tune`, where the search starts.
    seed
        Seed of the start.
    tune
        Choose the weight of unobserved pairs and the regularisation on the validation items.

    Raises
    ------
    RunError
        If a ridge system cannot be solved in float32 (regularisation too small).
    """
    config = config or ALSConfig()
    if tune:
        config = choose_als(split, config, seed=seed)
    _, items = fit_als(split.train, split.n_items, config, seed)
    return _scorer(solve_users(items, split.before(part), config), items)


def choose_als(split: Split, config: ALSConfig | None = None, *, seed: int = 0) -> ALSConfig:
    """Choose the settings of the matrix factorisation by sampled NDCG@10 on validation.

    First the weight of unobserved pairs is chosen from a short list, then the regularisation, six
    fits in all.  ``dim``, ``sweeps`` and the first regularisation tried are those of `config`.
    """
    first = config or ALSConfig()

    def quality(candidate: ALSConfig) -> float:
        scorer = _scorer(*fit_als(split.train, split.n_items, candidate, seed))
        return evaluate(scorer, split, "validation").sampled["ndcg@10"]

    weights = [first.model_copy(update={"unobserved_weight": weight}) for weight in _WEIGHTS]
    found = [(quality(candidate), candidate) for candidate in weights]
    best = max(found, key=itemgetter(0))[1]
    for regularisation in _REGULARISATIONS:
        candidate = best.model_copy(update={"regularisation": regularisation})
        found.append((quality(candidate), candidate))
    return max(found, key=itemgetter(0))[1]


def baselines(
    split: Split,
    seed: int = 0,
    *,
    centralised_mf: bool = True,
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
    centralised_mf
        Pass False to leave the matrix factorisation out.  Seven fits (one without `tune`) take
        about 7 s for a million interactions on two cores and grow with the interactions; memory
        is ``(users + items) * dim`` floats plus 40 bytes for each interaction.
    tune
        Choose the factorisation's settings on validation.
    recency
        How the age of an interaction weighs it in the matrix factorisation: the model it is held
        against should know no more.

    Returns
    -------
    dict
        ``{"popularity": {"validation": report, "test": report}, "centralised_mf": {...}}``, each
        report as by `Report.to_dict`; ``centralised_mf`` also has ``settings``, those chosen.
    """
    found = {"popularity": _both_parts(dict.fromkeys(_PARTS, popularity(split)), split)}
    if centralised_mf:
        config = ALSConfig(recency=recency or RecencyConfig())
        config = choose_als(split, config, seed=seed) if tune else config
        parts = {part: matrix_factorisation(split, config, part, seed=seed) for part in _PARTS}
        found["centralised_mf"] = _both_parts(parts, split) | {"settings": config.model_dump()}
    return found


def _both_parts(scorers: dict[Holdout, Scorer], split: Split) -> dict[str, dict[str, Any]]:
    return {part: evaluate(scorer, split, part).to_dict() for part, scorer in scorers.items()}


def _scorer(user_vectors: Tensor, item_vectors: Tensor) -> Scorer:
    return lambda users: user_vectors[users] @ item_vectors.T
