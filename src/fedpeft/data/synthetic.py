"""A made-up data set in which text and behaviour each carry a part of the signal.

Items have a topic, which their text tells, a Zipf-like popularity and hidden factors, of which the
topic explains a part.  Users have a taste over topics that drifts, and hidden factors of their own.
An interaction draws a topic from the taste, a few candidates from the topic by popularity, and one
of these by affinity, so the cost is linear in the interactions and no users x items matrix exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpeft.data.config import SyntheticConfig
from fedpeft.data.dataset import Dataset, Histories, Ints
from fedpeft.data.ragged import indptr_of, row_of
from fedpeft.data.synthetic_text import write_catalogue
from fedpeft.seeding import numpy_rng

Floats = NDArray[np.float32]

_FACTORS = 4
_CANDIDATES = 24
_AFFINITY = 4.0  # scale of the hidden factors' score against the Gumbel noise of the choice
_TASTES = 3  # topics that a user cares about
_MOOD = 0.9  # share of a session's interactions that stay with its topic
_EXPLORE = 0.05  # share of interactions outside the user's topics
_SPREAD = 0.6  # standard deviation of the logarithm of history lengths
_CHUNK = 200_000  # events per block; a block holds _CANDIDATES x _FACTORS numbers per event
_BRANDS = 20
_PATIENCE = 8  # attempts at distinct items from a user's own topics


@dataclass(frozen=True, eq=False)
class _World:
    """Everything that interactions are drawn from."""

    by_topic: Ints  # items, topic after topic
    mass: NDArray[np.float64]  # cumulative popularity along `by_topic`
    bounds: Ints  # topic t owns by_topic[bounds[t]:bounds[t + 1]]
    item_factors: Floats
    tastes: Ints  # (users, 2, _TASTES): topics at the start and at the end of the history
    user_factors: Floats
    drift: float
    sessions: Ints  # (users,): number of sessions in the history


def generate(config: SyntheticConfig) -> Dataset:
    """Draw a data set; the same configuration gives the same data."""
    rng = numpy_rng(config.seed, "synthetic", "items")
    shares = 1.0 / np.arange(1, config.topics + 1) ** 0.5
    topic = rng.choice(config.topics, config.items, p=shares / shares.sum()).astype(np.int64)
    topic[: config.topics] = np.arange(config.topics)  # no topic without an item
    centres = rng.standard_normal((config.topics, _FACTORS), np.float32)
    own = rng.standard_normal((config.items, _FACTORS), np.float32)
    share = np.float32(config.text_share)
    factors = np.sqrt(share) * centres[topic] + np.sqrt(1 - share) * own
    brand = (factors[:, 0] * 4).astype(np.int64) % _BRANDS  # brands hint at the hidden factors
    rank = rng.permutation(config.items) + 1.0
    wanted = _lengths(config)
    world = _world(config, topic, factors, rank**-config.popularity_skew, wanted)
    histories = _histories(config, world, wanted)
    return Dataset(
        name="synthetic",
        catalogue=write_catalogue(topic, brand, numpy_rng(config.seed, "synthetic", "texts")),
        user_ids=[f"user-{u}" for u in range(config.users)],
        histories=histories,
        counts={
            "users": config.users,
            "items": config.items,
            "interactions": len(histories.items),
        },
    )


def _world(
    config: SyntheticConfig,
    topic: Ints,
    factors: Floats,
    popularity: NDArray[np.floating[Any]],
    wanted: Ints,
) -> _World:
    rng = numpy_rng(config.seed, "synthetic", "users")
    by_topic = np.argsort(topic, kind="stable")
    sizes = np.bincount(topic, weights=popularity, minlength=config.topics)
    tastes = rng.choice(config.topics, (config.users, 2, _TASTES), p=sizes / sizes.sum())
    return _World(
        by_topic=by_topic,
        mass=np.cumsum(popularity[by_topic]),
        bounds=indptr_of(np.bincount(topic, minlength=config.topics)),
        item_factors=factors,
        tastes=tastes.astype(np.int64),
        user_factors=rng.standard_normal((config.users, _FACTORS), np.float32),
        drift=config.drift,
        sessions=np.ceil(wanted / config.session).astype(np.int64),
    )


def _lengths(config: SyntheticConfig) -> Ints:
    """Draw how many distinct items each user has."""
    rng = numpy_rng(config.seed, "synthetic", "lengths")
    mean = config.interactions_per_user
    lengths = rng.lognormal(np.log(mean) - _SPREAD**2 / 2, _SPREAD, config.users)
    return np.clip(np.rint(lengths), 3, max(3, config.items // 2)).astype(np.int64)


def _histories(config: SyntheticConfig, world: _World, wanted: Ints) -> Histories:
    """Draw until every user has as many distinct items as wanted."""
    rng = numpy_rng(config.seed, "synthetic", "interactions")
    user, item, when = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    attempt = 0
    while (missing := wanted - np.bincount(user, minlength=config.users)).any():
        new = row_of(missing)
        # a random time for each event, so that second choices do not pile up at the end
        time = rng.random(len(new))
        if attempt < _PATIENCE:
            drawn = _choose(world, new, time, rng)
        else:  # a user has nearly emptied its topics: anything it lacks will do
            drawn = rng.integers(0, config.items, len(new))
        user, item, when = np.append(user, new), np.append(item, drawn), np.append(when, time)
        _, first = np.unique(user * config.items + item, return_index=True)
        user, item, when = user[first], item[first], when[first]
        attempt += 1
    return Histories(indptr_of(wanted), item[np.lexsort((when, user))])


def _mood(user: Ints, session: Ints) -> NDArray[np.float64]:
    """Return a number in [0, 1) that is fixed for a session and looks random (SplitMix64)."""
    key = user.astype(np.uint64) << np.uint64(20) ^ session.astype(np.uint64)
    key = key * np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ key >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ key >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return (key >> np.uint64(11)) / 2.0**53


def _choose(world: _World, user: Ints, time: NDArray[np.float64], rng: np.random.Generator) -> Ints:
    """Draw one item for each event; `time` in [0, 1) is its place in the user's history."""
    out = np.empty(len(user), np.int64)
    for start in range(0, len(user), _CHUNK):
        block = slice(start, start + _CHUNK)
        who = user[block]
        session = (time[block] * world.sessions[who]).astype(np.int64)
        begin = session / world.sessions[who]
        # one draw per event, or the same for a whole session
        draw = np.where(rng.random(len(who)) < _MOOD, _mood(who, session), rng.random(len(who)))
        late = (_mood(who, session + 1) < world.drift * begin).astype(np.int64)
        slot = (_TASTES * draw**2).astype(np.int64)  # the first counts most
        topic = world.tastes[who, late, slot]
        explores = rng.random(len(who)) < _EXPLORE
        first = np.where(explores, 0, world.bounds[topic])
        last = np.where(explores, len(world.mass), world.bounds[topic + 1]) - 1
        low = np.where(first > 0, world.mass[first - 1], 0.0)
        point = rng.random((len(who), _CANDIDATES)) * (world.mass[last] - low)[:, None]
        place = np.searchsorted(world.mass, point + low[:, None], side="right")
        candidates = world.by_topic[np.clip(place, first[:, None], last[:, None])]
        score = np.einsum("ecf,ef->ec", world.item_factors[candidates], world.user_factors[who])
        noise = rng.gumbel(size=score.shape)
        best = np.argmax(_AFFINITY * score / np.sqrt(_FACTORS) + noise, axis=1)
        out[block] = candidates[np.arange(len(who)), best]
    return out
