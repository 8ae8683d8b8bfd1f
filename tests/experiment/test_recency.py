"""Whether ages weigh is chosen on validation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from fedpeft.data import DataConfig, Dataset, Histories, SplitConfig, load, split
from fedpeft.data.config import SyntheticConfig
from fedpeft.data.recency import RecencyConfig
from fedpeft.data.synthetic import generate
from fedpeft.errors import ConfigError
from fedpeft.experiment.recency import pays, resolve_recency

pytestmark = pytest.mark.usefixtures("cache")
AUTO = RecencyConfig(half_life="auto", floor=0.1)
DRIFTING = SyntheticConfig(users=400, items=300, drift=1.0, session=10.0)


def shuffled(data: Dataset) -> Dataset:
    """Return the same histories, each in a random order that is taken for one of time."""
    rng = np.random.default_rng(0)
    indptr = data.histories.indptr
    items = [rng.permutation(data.histories.of(user)) for user in range(data.n_users)]
    return replace(data, histories=Histories(indptr, np.concatenate(items)))


def test_ages_weigh_where_taste_drifts_and_not_where_the_order_is_random() -> None:
    data = generate(DRIFTING)
    found = resolve_recency(AUTO, split(data, SplitConfig()))
    assert found == RecencyConfig(half_life=5.0, floor=0.1)
    assert resolve_recency(AUTO, split(shuffled(data), SplitConfig())) == RecencyConfig()


def test_what_was_found_is_kept_and_a_damaged_entry_is_not(cache: Path) -> None:
    parts = split(generate(DRIFTING), SplitConfig(negatives=50))
    found = resolve_recency(AUTO, parts)
    with patch("fedpeft.experiment.recency.pays", side_effect=AssertionError):
        assert resolve_recency(AUTO, parts) == found
    for entry in (cache / "recency").iterdir():
        entry.write_text("{")
    assert resolve_recency(AUTO, parts) == found


def test_what_is_set_is_kept() -> None:
    for asked in (RecencyConfig(), RecencyConfig(half_life=3.0, floor=0.2)):
        parts = split(shuffled(generate(DRIFTING)), SplitConfig())
        assert resolve_recency(asked, parts) == asked


def test_a_sample_of_users_does() -> None:
    parts = split(generate(DRIFTING), SplitConfig(max_eval_users=100))
    assert pays(RecencyConfig(half_life=5.0, floor=0.1), parts)


def test_an_open_half_life_weighs_nothing() -> None:
    with pytest.raises(ConfigError, match="resolve the settings with data"):
        AUTO.weights(np.arange(3))


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["ml-1m", "ml-100k", "ml-latest-small", "amazon-industrial"])
def test_real_orders_tell_something_and_random_ones_do_not(name: str, real_data: Path) -> None:
    data = load(DataConfig(source=str(real_data / name)))
    assert resolve_recency(AUTO, split(data, SplitConfig())).half_life == 5.0
    assert resolve_recency(AUTO, split(shuffled(data), SplitConfig())).half_life == 0.0
