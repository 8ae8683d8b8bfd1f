"""Rules that turn statistics of the data into settings, each continuous in the statistic."""

from __future__ import annotations

LEAST_EPS = 1e-8
"""Eps of Adam where nothing asks for more."""

# Measured at a density of 0.16 %, where a large eps gains a tenth of NDCG@10 and more with every
# backbone, and at 4.5 %, where it slows training down.
_SPARSE, _DENSE = 0.002, 0.01

# An item decay of 0.05 gains 0.01 of NDCG@10 with 59 interactions an item, and one of 0.5 gains
# 0.008 with 13; with 270 one of 0.002 loses 0.002.
_RARE, _OFTEN = 60.0, 100.0
_DECAY = 150.0
_MOST_DECAY = 0.5

# Where items have more interactions, a client's network may travel further before it knows its own
# by heart.  With 13, 59 and 270 an item 7, 20 to 30 and 60 to 100 rounds were best; 4 were too few.
# What counts is how often a client takes part: those rounds had a tenth of the clients each.
_HALVING = 3 / 4
_TENTH = 0.1


def server_eps(sparse_eps: float, density: float) -> float:
    """Eps of the server's Adam, for data of a density in [0, 1].

    It is `sparse_eps` up to a density of 0.2 %, falls linearly, and is 1e-8 from 1 % on.
    """
    return max(LEAST_EPS, sparse_eps * _ramp(density, _SPARSE, _DENSE))


def relative_item_decay(per_item: float) -> float:
    """Item decay as a multiple of the density, for a mean number of interactions of an item.

    The vector of an item with few interactions is noise for a larger part.  So the decay is
    150 / c^2, at most 0.5, for c up to 60; from there it falls to 0 at c = 100.
    """
    if per_item <= 0:
        return 0.0
    return min(_MOST_DECAY, _DECAY / per_item**2) * _ramp(per_item, _RARE, _OFTEN)


def local_halving(per_item: float, cohort: float) -> float:
    """Rounds after which the inverse schedule has halved the local learning rate, at least one."""
    rounds: float = per_item**_HALVING * _TENTH / cohort
    return max(1.0, rounds)


def _ramp(value: float, full: float, none: float) -> float:
    """Return 1 up to `full`, 0 from `none` on, and a straight line between them."""
    return min(1.0, max(0.0, (none - value) / (none - full)))
