"""Invented splits and slow, readable oracles for the evaluation tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from fedpeft.data.dataset import Histories, Ints, Split
from fedpeft.data.recency import RecencyConfig

EQUAL = RecencyConfig()


def split_of(
    n_items: int,
    sequences: list[list[int]],
    *,
    n_negatives: int = 100,
    eval_users: list[int] | None = None,
    seed: int = 0,
) -> Split:
    """Leave the last two items of each sequence out; pad the negatives with -1."""
    rng = np.random.default_rng(seed)
    chosen = np.array(range(len(sequences)) if eval_users is None else eval_users, dtype=np.int64)
    negatives = np.full((len(chosen), n_negatives), -1, dtype=np.int64)
    for row, user in enumerate(chosen):
        unseen = np.delete(np.arange(n_items), sequences[user])
        drawn = rng.choice(unseen, size=min(n_negatives, len(unseen)), replace=False)
        negatives[row, : len(drawn)] = drawn
    return Split(
        n_items=n_items,
        train=histories_of([sequence[:-2] for sequence in sequences]),
        validation=np.array([sequence[-2] for sequence in sequences], dtype=np.int64),
        test=np.array([sequence[-1] for sequence in sequences], dtype=np.int64),
        eval_users=chosen,
        negatives=negatives,
        fingerprint="invented",
    )


def histories_of(rows: list[list[int]]) -> Histories:
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    items = [item for row in rows for item in row]
    return Histories(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), np.array(items, dtype=np.int64)
    )


def random_split(n_users: int, n_items: int, length: int, *, seed: int = 0) -> Split:
    """Users with `length` uniform items each and 100 negatives: nothing to learn."""
    rng = np.random.default_rng(seed)
    sequences = [rng.permutation(n_items)[:length].tolist() for _ in range(n_users)]
    return split_of(n_items, sequences, seed=seed)


def block_split(n_users: int = 60, block: int = 40, length: int = 24, *, seed: int = 0) -> Split:
    """Two kinds of users, each of which only ever takes items of its own half of the catalogue."""
    rng = np.random.default_rng(seed)
    sequences = [
        (rng.permutation(block)[:length] + block * (user % 2)).tolist() for user in range(n_users)
    ]
    return split_of(2 * block, sequences, n_negatives=50, seed=seed)


def slow_rank(scores: np.ndarray, target: int, candidates: list[int]) -> int:
    """Sort best first, the target after everything it ties with, and look where it is."""
    order = sorted([*candidates, target], key=lambda item: (-scores[item], item == target))
    return 1 + order.index(target)


def slow_ranks(scores: np.ndarray, split: Split, part: str) -> tuple[list[int], list[int]]:
    """Return the sampled and the full ranks, user by user."""
    sampled, full = [], []
    for user, negatives in zip(split.eval_users, split.negatives, strict=True):
        target = int((split.test if part == "test" else split.validation)[user])
        known = {target, *split.train.of(user).tolist()}
        if part == "test":
            known.add(int(split.validation[user]))
        rest = [item for item in range(split.n_items) if item not in known]
        listed = [int(item) for item in negatives if item >= 0]
        sampled.append(slow_rank(scores[user], target, listed))
        full.append(slow_rank(scores[user], target, rest))
    return sampled, full


def with_items(histories: Histories, extra: Ints) -> Histories:
    """Append one item to every user's history."""
    rows = [[*histories.of(u).tolist(), int(extra[u])] for u in range(histories.n_users)]
    return histories_of(rows)


@st.composite
def trains(draw: st.DrawFn) -> tuple[Histories, int]:
    """Draw histories, empty ones among them, and the number of items, some of which nobody has."""
    n_items = draw(st.integers(1, 9))
    row = st.sets(st.integers(0, n_items - 1)).map(sorted)
    return histories_of(draw(st.lists(row, max_size=8))), n_items


def dense(histories: Histories, n_items: int, recency: RecencyConfig = EQUAL) -> np.ndarray:
    """Return the weighted rows of all users, float64."""
    rows = np.zeros((histories.n_users, n_items))
    for user in range(histories.n_users):
        items = histories.of(user)
        own = histories.weights_of(user)
        weights = recency.weights(np.arange(len(items))[::-1])
        rows[user, items] = weights if own is None else weights * own
    return rows


def weighted(histories: Histories, seed: int = 0) -> Histories:
    """Give every interaction a weight of its own."""
    drawn = np.random.default_rng(seed).uniform(0.2, 3.0, len(histories.items))
    return replace(histories, weights=drawn.astype(np.float32))
