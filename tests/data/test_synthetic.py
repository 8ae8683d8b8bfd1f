"""The generator: shape, determinism, and signal in text and behaviour."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from fedpeft.config import parse
from fedpeft.data import DataConfig, Dataset, Split, SplitConfig, SyntheticConfig, load, split
from fedpeft.data.synthetic_text import names_and_words
from fedpeft.errors import ConfigError


@pytest.fixture(scope="module")
def made() -> Dataset:
    return load(DataConfig())


@pytest.fixture(scope="module")
def parts(made: Dataset) -> Split:
    return split(made, SplitConfig())


def test_shape(made: Dataset) -> None:
    lengths = made.histories.lengths()
    assert (made.n_users, made.n_items) == (1000, 700)
    assert made.histories.indptr[-1] == len(made.histories.items) == made.counts["interactions"]
    assert lengths.min() >= 3
    assert 36 < lengths.mean() < 44
    for user in range(made.n_users):
        assert len(set(made.histories.of(user).tolist())) == lengths[user]
    assert len(set(made.catalogue.ids)) == 700
    assert all(made.catalogue.texts)


@pytest.mark.parametrize(
    "config",
    [
        SyntheticConfig(users=1, items=10, interactions_per_user=3, topics=1),
        SyntheticConfig(users=3, items=10, interactions_per_user=3, topics=10),
        SyntheticConfig(users=50, items=30, interactions_per_user=10, popularity_skew=2, topics=2),
        SyntheticConfig(users=5, items=200, topics=136, drift=1, text_share=1),
    ],
)
def test_odd_sizes(config: SyntheticConfig) -> None:
    made = load(DataConfig(synthetic=config))
    assert (made.n_users, made.n_items) == (config.users, config.items)
    for user in range(made.n_users):
        mine = made.histories.of(user)
        assert len(set(mine.tolist())) == len(mine) >= 3
        assert ((mine >= 0) & (mine < config.items)).all()


def test_seed_decides() -> None:
    small = {"users": 20, "items": 60, "interactions_per_user": 8}
    first, again, other = (
        load(DataConfig(synthetic=SyntheticConfig(seed=seed, **small))) for seed in (3, 3, 4)
    )
    assert (first.histories.items == again.histories.items).all()
    assert first.catalogue.texts == again.catalogue.texts
    assert first.histories.items.tolist() != other.histories.items.tolist()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"items": 20, "topics": 21, "interactions_per_user": 3}, "topics = 21 must not exceed"),
        ({"items": 90}, "must be at most a third"),
        ({"users": 0}, "users"),
    ],
)
def test_impossible_settings(values: dict[str, int], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse(SyntheticConfig, values)


def test_topics_have_distinct_names() -> None:
    named = names_and_words(136)
    assert len({name for name, _ in named}) == 136
    assert {len(words) for _, words in named} == {8}


def test_text_and_behaviour_carry_signal(made: Dataset, parts: Split) -> None:
    popularity = np.bincount(parts.train.items, minlength=made.n_items).astype(float)
    floor = _hit_rate(parts, np.tile(popularity, (made.n_users, 1)))
    text = TfidfVectorizer().fit_transform(made.catalogue.texts)
    owned = np.zeros((made.n_users, made.n_items))
    for user in range(made.n_users):
        owned[user, parts.train.of(user)] = 1
    similar = _hit_rate(parts, (owned @ text) @ text.T)
    factored = _hit_rate(parts, _ials(owned, rank=16, rounds=6))
    assert similar > 0.2  # chance is 0.1
    assert factored > floor + 0.2
    assert factored > similar + 0.2


def _hit_rate(parts: Split, scores: np.ndarray) -> float:
    """HR@10 on the test items; ties count against the model."""
    users = parts.eval_users[:, None]
    own = scores[users, parts.test[users]]
    return float(((scores[users, parts.negatives] >= own).sum(1) < 10).mean())


def _ials(owned: np.ndarray, rank: int, rounds: int) -> np.ndarray:
    """Scores of least squares over all items (Hu, Koren and Volinsky 2008), dense and slow."""
    rng = np.random.default_rng(0)
    items = rng.normal(0, 0.1, (owned.shape[1], rank))
    for _ in range(rounds):
        users = _solve(items, owned)
        items = _solve(users, owned.T)
    return users @ items.T


def _solve(fixed: np.ndarray, owned: np.ndarray) -> np.ndarray:
    gram = 0.1 * fixed.T @ fixed + 0.1 * np.eye(fixed.shape[1])
    systems = gram + np.einsum("ui,ia,ib->uab", owned, fixed, fixed, optimize=True)
    return np.linalg.solve(systems, (owned @ fixed)[..., None])[..., 0]
