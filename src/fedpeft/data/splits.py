"""Leave-one-out in time order, with seeded evaluation negatives."""

from __future__ import annotations

import numpy as np

from fedpeft.data.config import SplitConfig
from fedpeft.data.dataset import Dataset, Floats, Histories, Ints, Split
from fedpeft.data.ragged import Complement, indptr_of, sort_rows, take
from fedpeft.errors import DataError
from fedpeft.files import fingerprint
from fedpeft.seeding import numpy_rng

_CHUNK = 8192  # users per block: keeps the distinctness checks of a block in the cache


def split(dataset: Dataset, config: SplitConfig) -> Split:
    """Split every user's history: last item test, second last validation, the rest train.

    Histories without an order stand in a random one, so these are two random items then.

    Parameters
    ----------
    dataset
        Histories oldest first, at least three items each.
    config
        Evaluation negatives, their seed, and how many users to evaluate.

    Raises
    ------
    DataError
        If there is no user, or a user has fewer than three items.
    """
    histories = dataset.histories
    lengths = histories.lengths()
    if len(lengths) == 0:
        raise DataError(f"{dataset.name} has no users to split")
    if lengths.min() < 3:
        user = int(lengths.argmin())
        raise DataError(
            f"user {dataset.user_ids[user]!r} of {dataset.name} has {lengths[user]} items, "
            "but train, validation and test need 3"
        )
    ends = histories.indptr[1:]
    held_out = np.zeros(len(histories.items), bool)
    held_out[ends - 1] = held_out[ends - 2] = True
    weights = histories.weights
    train = Histories(
        indptr_of(lengths - 2),
        histories.items[~held_out],
        None if weights is None else weights[~held_out],
    )
    known = None if weights is None else weights[ends - 2]
    validation, test = histories.items[ends - 2], histories.items[ends - 1]
    eval_users = _sample_users(len(lengths), config)
    negatives = evaluation_negatives(histories, dataset.n_items, eval_users, config)
    parts: list[Ints | Floats] = [train.indptr, train.items, validation, test, eval_users]
    parts.append(negatives)
    if train.weights is not None and known is not None:
        parts += [train.weights, known]
    return Split(
        n_items=dataset.n_items,
        train=train,
        validation=validation,
        test=test,
        eval_users=eval_users,
        negatives=negatives,
        fingerprint=fingerprint(str(dataset.n_items), *parts),
        validation_weights=known,
        ordered=dataset.order != "none",
    )


def evaluation_negatives(
    histories: Histories, n_items: int, users: Ints, config: SplitConfig
) -> Ints:
    """Draw distinct items that each user never interacted with, in any part.

    Returns
    -------
    int64 of shape (len(users), config.negatives); -1 pads the rows of users with fewer such items.
    """
    rng = numpy_rng(config.negatives_seed, "data", "evaluation negatives")
    out = np.empty((len(users), config.negatives), np.int64)
    for start in range(0, len(users), _CHUNK):
        block = users[start : start + _CHUNK]
        missing = Complement(sort_rows(take(histories, block), n_items), n_items)
        ranks = _distinct_ranks(missing.sizes, config.negatives, rng)
        row = np.arange(len(block), dtype=np.int64)[:, None]
        items = missing.at(row, np.maximum(ranks, 0))
        out[start : start + len(block)] = np.where(ranks >= 0, items, -1)
    return out


def _sample_users(n_users: int, config: SplitConfig) -> Ints:
    if config.max_eval_users is None or config.max_eval_users >= n_users:
        return np.arange(n_users, dtype=np.int64)
    rng = numpy_rng(config.negatives_seed, "data", "evaluated users")
    chosen = rng.choice(n_users, config.max_eval_users, replace=False, shuffle=False)
    return np.sort(chosen).astype(np.int64)


def _distinct_ranks(sizes: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Draw, per row, a uniform set of min(count, size) distinct ranks below size; pad with -1.

    Floyd's algorithm (Bentley and Floyd 1987), one step for all rows at a time: step j draws from
    the first ``size - take + j + 1`` ranks and takes the largest of them if the draw is taken.
    """
    picked = np.full((count, len(sizes)), -1, np.int64)
    takes = np.minimum(sizes, count)
    for j in range(int(takes.max(initial=0))):
        top = np.where(j < takes, sizes - takes + j, 0)
        draw = rng.integers(0, top + 1)
        taken = (picked[:j] == draw).any(axis=0)
        picked[j] = np.where(j < takes, np.where(taken, top, draw), -1)
    return np.ascontiguousarray(picked.T)
