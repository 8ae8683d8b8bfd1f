"""Whether the age of an interaction tells anything: measured on validation, once for a data set.

Weights by age pay where taste drifts.  Where the order of a user's interactions means nothing, they
throw most of a history away, and they do so for every method and for the baseline alike, so that no
comparison shows it.  So a simple strong model decides, a centralised factorisation.  Weights by age
must rank the validation items better than equal weights do, and better than the same weights in a
random order, since weights may also gain by what they do to the regularisation.  Both differences,
paired over users, must exceed two standard errors.  The choice depends on the split alone: all
methods and seeds of an experiment share it.

A simulator may do so, since it holds all data.  In a deployment nobody does.  There each client
would compare the three on its own validation item, with the item vectors of a short pilot run, and
send two differences; the server needs their sums and sums of squares only, which can be summed
securely, or noised once under differential privacy.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fedpeft import __version__
from fedpeft.data import Histories, Split
from fedpeft.data.dataset import Ints
from fedpeft.data.ragged import row_of, take
from fedpeft.data.recency import RecencyConfig
from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.evaluation import rank_sampled
from fedpeft.evaluation.als import ALSConfig, fit_als
from fedpeft.evaluation.metrics import Floats, gains
from fedpeft.files import fingerprint, read_json, write_json
from fedpeft.items import default_cache
from fedpeft.seeding import numpy_rng

HALF_LIFE = 5.0
"""The half-life that is chosen where weights by age pay."""

_MOST = 5_000  # users that are looked at; more would tell no more
_ERRORS = 2.0  # standard errors that a difference must exceed


def resolve_recency(asked: RecencyConfig, split: Split) -> RecencyConfig:
    """Return the weights by age with a half-life that is a number.

    Raises
    ------
    ConfigError
        If ages are to weigh on data without an order.
    """
    if asked.half_life == 0:
        return asked
    if not split.ordered and asked.half_life != "auto":
        raise ConfigError(
            f"training.recency.half_life = {asked.half_life:g} weighs interactions by their age, "
            'but the data are in no order; set it to 0 or "auto", or name what orders them '
            "(data.columns.timestamp, data.order)"
        )
    if asked.half_life != "auto":
        return asked
    weighted = asked.model_copy(update={"half_life": HALF_LIFE})
    return weighted if split.ordered and _known_to_pay(weighted, split) else RecencyConfig()


def _known_to_pay(recency: RecencyConfig, split: Split) -> bool:
    """Return what `pays` does, found once per split and version and kept in the cache."""
    key = fingerprint(split.fingerprint, __version__, repr(recency))
    path = default_cache() / "recency" / f"{key}.json"
    if path.exists():
        try:
            if isinstance(found := read_json(path), bool):
                return found
        except ArtifactError:
            pass  # a damaged cache entry is computed again
    found = pays(recency, split)
    write_json(path, found)
    return found


def pays(recency: RecencyConfig, split: Split) -> bool:
    """Return whether weights by age rank the validation items clearly better than others."""
    part = _sample(split)
    found = _gains(part, recency)
    return _better(found, _gains(part, RecencyConfig())) and _better(
        found, _gains(replace(part, train=_shuffled(part.train)), recency)
    )


def _better(one: Floats, other: Floats) -> bool:
    """Return whether one model's users gain more than another's, beyond chance."""
    difference = one - other
    error = difference.std() / math.sqrt(len(difference))
    return bool(difference.mean() > _ERRORS * error)


def _gains(split: Split, recency: RecencyConfig) -> Floats:
    """Return the NDCG@10 of each evaluated user on validation, float64, with a factorisation."""
    config = ALSConfig.by_rule(split.statistics, recency=recency)
    users, items = fit_als(split.train, split.n_items, config)

    def scorer(rows: Tensor, lists: Tensor) -> Tensor:
        return torch.einsum("bk,bck->bc", users[rows], items[lists])

    return gains(rank_sampled(scorer, split), 10)


def _shuffled(train: Histories) -> Histories:
    """Return the same histories, each in a random order; weights stay with their items."""
    draw = numpy_rng(0, "recency", "order").random(len(train.items))
    order = np.lexsort((draw, row_of(train.lengths())))
    weights = None if train.weights is None else train.weights[order]
    return Histories(train.indptr, train.items[order], weights)


def _sample(split: Split) -> Split:
    """Return the split of some users, those that are evaluated before others."""
    rng = numpy_rng(0, "recency", "users")
    asked = _some(np.arange(len(split.eval_users)), _MOST, rng)
    evaluated = split.eval_users[asked]
    others = np.setdiff1d(np.arange(split.n_users), evaluated)
    rows = np.concatenate([evaluated, _some(others, _MOST - len(evaluated), rng)])
    return Split(
        n_items=split.n_items,
        train=take(split.train, rows),
        validation=split.validation[rows],
        test=split.test[rows],
        eval_users=np.arange(len(evaluated), dtype=np.int64),
        negatives=split.negatives[asked],
        fingerprint=split.fingerprint,
    )


def _some(places: Ints, most: int, rng: np.random.Generator) -> Ints:
    """Return a sample of places, ascending; all where they are few enough."""
    if len(places) <= most:
        return places
    return np.sort(rng.choice(places, most, replace=False, shuffle=False))
