"""What is derived from data: continuous rules, resolved once to numbers that act."""

from __future__ import annotations

from typing import Any

import pytest

from fedpeft.data import DataStatistics
from fedpeft.errors import ConfigError
from fedpeft.losses import losses
from fedpeft.training import ServerOptimizerConfig, TrainingConfig, derive

INVERSE: dict[str, Any] = {"local": "gradient", "local_steps": 1, "local_schedule": "inverse"}
AMAZON = DataStatistics(users=11_041, items=4344, interactions=55_512)
ML_100K = DataStatistics(users=943, items=1682, interactions=98_119)
ML_1M = DataStatistics(users=6040, items=3706, interactions=988_129)


def test_statistics() -> None:
    found = DataStatistics(users=4, items=5, interactions=10)
    assert (found.density, found.per_item, found.per_user) == (0.5, 2.0, 2.5)
    nothing = DataStatistics(0, 0, 0)
    assert (nothing.density, nothing.per_item, nothing.per_user) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("density", "eps"),
    [(0.0, 3e-3), (0.0016, 3e-3), (0.002, 3e-3), (0.006, 1.5e-3), (0.01, 1e-8), (0.045, 1e-8)],
)
def test_eps_is_large_on_sparse_data(density: float, eps: float) -> None:
    assert derive.server_eps(3e-3, density) == pytest.approx(eps)
    assert derive.server_eps(0.0, density) == 1e-8


@pytest.mark.parametrize(
    ("per_item", "decay"),
    [
        (0.0, 0.0),
        (1e-3, 0.5),  # at most
        (13.0, 0.5),
        (50.0, 150 / 50**2),
        (80.0, 150 / 80**2 / 2),
        (100.0, 0.0),  # each item is met often
        (270.0, 0.0),
    ],
)
def test_decay_is_for_items_with_few_interactions(per_item: float, decay: float) -> None:
    assert derive.relative_item_decay(per_item) == pytest.approx(decay)


@pytest.mark.parametrize(
    ("per_item", "cohort", "rounds"),
    [
        (16.0, 0.1, 8.0),
        (16.0, 0.2, 4.0),  # a client takes part twice as often
        (16.0, 0.05, 16.0),
        (0.9, 0.1, 1.0),  # at least one round
        (0.0, 0.1, 1.0),
    ],
)
def test_rates_fall_with_how_often_a_client_takes_part(
    per_item: float, cohort: float, rounds: float
) -> None:
    assert derive.local_halving(per_item, cohort) == pytest.approx(rounds)


@pytest.mark.parametrize("at", [0.002, 0.01, 60.0, 100.0])
def test_rules_have_no_step(at: float) -> None:
    for rule in (lambda x: derive.server_eps(3e-3, x), derive.relative_item_decay):
        assert rule(at * (1 - 1e-9)) == pytest.approx(rule(at * (1 + 1e-9)), abs=1e-7)


@pytest.mark.parametrize(
    ("statistics", "eps", "decay", "unobserved"),
    [
        (AMAZON, 3e-3, 0.000579, 0.00463),
        (ML_100K, 1e-8, 0.0618 * 150 / 58.3**2, 0.2474),
        (ML_1M, 1e-8, 0.0, 0.1766),
    ],
    ids=["amazon-industrial", "ml-100k", "ml-1m"],
)
def test_the_tuned_data_sets_have_the_numbers_they_were_tuned_with(
    statistics: DataStatistics, eps: float, decay: float, unobserved: float
) -> None:
    training = TrainingConfig(sparse_eps=3e-3, relative_item_decay="auto").resolved(statistics)
    assert training.server_optimizer_at("adapt").eps == eps
    assert training.item_decay == pytest.approx(decay, rel=2e-3)
    loss = losses.get("ials").config().resolved(statistics)  # type: ignore[attr-defined]
    assert loss.unobserved_weight == pytest.approx(unobserved, rel=1e-3)


def test_frequency_decay_is_a_quarter_of_the_reciprocal_of_the_mean_history() -> None:
    for statistics in (AMAZON, ML_100K, ML_1M, DataStatistics(users=5, items=9, interactions=0)):
        training = TrainingConfig(frequency_decay="auto").resolved(statistics)
        expected = 1 / (4 * max(1, statistics.interactions / statistics.users))
        assert training.frequency_decay == pytest.approx(expected)


def test_numbers_stay_when_resolved_again_with_other_data() -> None:
    settings = TrainingConfig(
        sparse_eps=3e-3,
        relative_item_decay="auto",
        warmup_rounds=3,
        warmup_optimizer=ServerOptimizerConfig(lr=0.5),
        **INVERSE,
    )
    once = settings.resolved(AMAZON)
    assert once.resolved(ML_1M) == once
    assert once.warmup_optimizer is not None
    assert once.warmup_optimizer.eps == once.server_optimizer.eps == 3e-3
    assert (once.sparse_eps, once.relative_item_decay) == (0.0, 0.0)


def test_what_is_given_is_what_acts() -> None:
    settings = TrainingConfig(
        sparse_eps=3e-3,
        server_optimizer=ServerOptimizerConfig(eps=1e-8),
        item_decay=0.2,
        local_halving=7.0,
        **INVERSE,
    )
    resolved = settings.resolved(AMAZON)
    assert resolved.server_optimizer_at("adapt").eps == 1e-8
    assert (resolved.item_decay, resolved.local_halving) == (0.2, 7.0)
    relative = TrainingConfig(relative_item_decay=0.2).resolved(AMAZON)
    assert relative.item_decay == pytest.approx(0.2 * AMAZON.density)


def test_unresolved_settings_do_not_act() -> None:
    with pytest.raises(ConfigError, match="resolve the settings with data"):
        TrainingConfig().server_optimizer_at("adapt")
    with pytest.raises(ConfigError, match="local_halving is not set"):
        TrainingConfig(**INVERSE).local_optimizer_at(0)
    sgd = ServerOptimizerConfig(kind="sgd")
    resolved = TrainingConfig(server_optimizer=sgd).resolved(AMAZON)
    assert resolved.server_optimizer_at("adapt") == sgd
