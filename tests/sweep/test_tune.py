"""What tuning searches, and when it believes what it found."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student

from fedpeft.config import merge
from fedpeft.data import Split, load, split
from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.experiment import resolve
from fedpeft.records import Users
from fedpeft.records.parquet import write_table
from fedpeft.sweep import read_grid
from fedpeft.sweep.folder import Outcome, SweepFolder
from fedpeft.sweep.search import Search
from fedpeft.sweep.study import Found, Trial
from fedpeft.sweep.tune import (
    MULTIPLES,
    Verdict,
    grid_of,
    judge,
    search_of,
    write_grid,
    write_tuned,
)

from .grids import write_grid as write_text

SYNTHETIC: dict[str, Any] = {
    "data": {
        "synthetic": {"users": 60, "items": 80, "interactions_per_user": 10, "topics": 8},
        "source": "synthetic",
    },
    "items": {"base": "svd"},
    "training": {"rounds": 10, "recency": {"half_life": 0.0}},
}


def given(preset: str, **tables: Any) -> dict[str, Any]:
    return merge(SYNTHETIC, {"preset": preset, **tables})


def parts_of(values: dict[str, Any]) -> Split:
    asked = resolve(values)
    return split(load(asked.data), asked.evaluation)


def sparse() -> dict[str, Any]:
    """Return tables of data with a density below 1 %, where a preset has all its values."""
    sizes = {"users": 60, "items": 900, "interactions_per_user": 6, "topics": 8}
    return given("fedpeft", data={"synthetic": sizes})


def test_newton_is_searched_around_what_it_comes_to() -> None:
    values = given("newton")
    parts, asked = parts_of(values), resolve(values)
    found = search_of(values, asked, parts)
    now = asked.resolved(parts)
    assert found.start == {
        "training.server_optimizer.lr": 1.0,
        "training.server_optimizer.prior": 2.0,
        "training.frequency_decay": now.training.frequency_decay,
        "loss.unobserved_weight": now.loss.config.unobserved_weight,  # type: ignore[attr-defined]
        "items.dim": 32,
    }
    for key, (low, high) in MULTIPLES["newton"].items():
        start = found.start[key]
        assert found.keys[key] == {"low": low * start, "high": high * start, "log": True}
    assert found.keys["items.dim"] == {"choices": [32, 64]}  # there are 80 items at most


def test_first_order_is_searched_around_what_it_comes_to() -> None:
    values = sparse()
    parts, asked = parts_of(values), resolve(values)
    found = search_of(values, asked, parts)
    assert set(found.keys) == set(MULTIPLES["fedpeft"])
    assert found.start["training.sparse_eps"] == asked.training.sparse_eps
    now = asked.resolved(parts).training
    assert now.item_decay is not None
    decay = found.start["training.relative_item_decay"] * parts.statistics.density
    assert decay == pytest.approx(now.item_decay)


def test_the_guide_names_what_is_searched() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
    section = guide.partition("\n## Tune on your data\n")[2].partition("\n## ")[0]
    for preset, keys in MULTIPLES.items():
        assert f"| `{preset}` |" in section
        assert all(f"`{key}`" in section for key in keys)


def test_what_is_set_stays_and_what_does_not_act_is_left_out() -> None:
    values = given("newton", training={"frequency_decay": 0.01}, items={"dim": 8})
    found = search_of(values, resolve(values), parts_of(values))
    assert not {"training.frequency_decay", "items.dim"} & set(found.keys)
    dense = given("fedpeft")
    assert "training.sparse_eps" not in search_of(dense, resolve(dense), parts_of(dense)).keys
    full = given("newton", adapter={"kind": "full"}, training={"server_optimizer": {"prior": 0}})
    found = search_of(full, resolve(full), parts_of(full))
    assert "training.server_optimizer.prior" not in found.keys
    gradient = given("paper", training={"joint": True})
    assert set(search_of(gradient, resolve(gradient), parts_of(gradient)).keys) == set(
        MULTIPLES["paper"]
    )


RATE = {"lr": 0.1}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (given("none"), "preset = 'none' does not say what is to be tuned; use fedpeft or"),
        (
            given("paper", training={"local_optimizer": RATE, "payload_optimizer": RATE}),
            "nothing is left to tune for preset = 'paper'",
        ),
    ],
)  # fmt: skip
def test_nothing_to_search(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        search_of(values, resolve(values), parts_of(values))


def opened(
    folder: Path, values: dict[str, Any], trials: int = 3, until: float | None = None, **more: Any
) -> tuple[Search, SweepFolder]:
    """Return the search that tuning would make in a folder."""
    pytest.importorskip("optuna")
    asked, parts = resolve(values), parts_of(values)
    settings = {"trials": trials, "ranking": "full", "seeds": [0], **more}
    file = grid_of(values, asked, search_of(values, asked, parts), **settings)
    path = write_grid(folder / "tuned.toml", file)
    grid, where = read_grid(path, folder), SweepFolder(path.parent)
    return Search(grid, [cell.labels for cell in grid.cells()], where, until), where


@pytest.mark.parametrize("preset", ["newton", "fedpeft", "paper"])
def test_the_first_trial_is_the_preset_as_it_is(preset: str, tmp_path: Path) -> None:
    values = given(preset)
    (first, *others) = opened(tmp_path, values, trials=4)[0].begin(4)
    parts = parts_of(values)
    plain = resolve({**values, "evaluation": {"every": 10, "test": False}}).resolved(parts)
    assert first.config.resolved(parts) == plain
    assert len(others) == 3
    assert plain not in [job.config.resolved(parts) for job in others]
    assert not any(job.config.evaluation.test for job in (first, *others))


def test_the_first_trial_is_taken_up_again_and_never_made_twice(tmp_path: Path) -> None:
    values = given("newton")
    first = opened(tmp_path, values)[0].begin(1)
    again, folder = opened(tmp_path, values)
    taken = again.begin(2)
    assert [job.folder for job in taken][:1] == [job.folder for job in first]
    assert taken[1].folder != taken[0].folder
    for job in taken:
        folder.record(job, Outcome(1, "diverged"))
    again.follow()
    once_more, folder = opened(tmp_path, values)  # the preset failed, so it is tried again
    assert first[0].folder in [job.folder for job in once_more.begin(3)]


def test_no_time_is_left(tmp_path: Path) -> None:
    """One trial is begun anyhow, and none after it."""
    search, folder = opened(tmp_path, given("newton"), trials=100, until=0.0)
    (job,) = search.begin(2)
    folder.record(job, Outcome(1, "diverged"))
    assert search.follow() == []
    assert opened(tmp_path, given("newton"), trials=100, until=0.0)[0].begin(2) == []


def test_time_is_left(tmp_path: Path) -> None:
    assert len(opened(tmp_path, given("newton"), trials=100, until=1e12)[0].begin(5)) == 5


START = """
base.training.rounds = 10
[search]
trials = 2
[search.keys]
"training.local_decay" = {low = 0.1, high = 0.2}
"training.refresh_every" = {choices = [2, 5]}
"""


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        ('{"training.local_decay" = 0.1}', "search.keys has training.refresh_every, which"),
        (
            '{"training.local_decay" = 0.1, "training.refresh_every" = 2, "training.cohort" = 0.1}',
            "search.start has training.cohort, which search.keys lacks",
        ),
        (
            '{"training.local_decay" = 0.3, "training.refresh_every" = 2}',
            "search.start.training.local_decay = 0.3 is none of the values",
        ),
        (
            '{"training.local_decay" = 0.1, "training.refresh_every" = 3}',
            "search.start.training.refresh_every = 3 is none of the values",
        ),
        (
            '{"training.local_decay" = true, "training.refresh_every" = 2}',
            "search.start.training.local_decay = True is none of the values",
        ),
    ],
)
def test_a_first_trial_outside_the_search(start: str, sentence: str, tmp_path: Path) -> None:
    text = START.replace("trials = 2", f"trials = 2\nstart = {start}")
    with pytest.raises(ConfigError, match=sentence):
        read_grid(write_text(tmp_path, text), tmp_path)


def trial(folder: Path, gains: dict[str, list[float]], value: float, **settings: Any) -> Trial:
    """Return a trial with one run, which has these gains of users by ranking."""
    users = [f"u{number}" for number in range(len(gains["full"]))]
    columns = {f"validation.{ranking}.ndcg@10": found for ranking, found in gains.items()}
    folder.mkdir()
    write_table(pl.DataFrame({"user": users, **columns}), folder / Users.FILE, Users.SCHEMA)
    return Trial(settings, value, [folder])


def test_a_gain_of_most_users_is_believed(tmp_path: Path) -> None:
    """The interval is Student's, at a level that many trials share."""
    rng = np.random.default_rng(0)
    before = rng.uniform(0, 0.5, 400)
    after = (before + rng.normal(0.05, 0.1, 400)).clip(0)
    first = trial(tmp_path / "first", {"full": list(before), "sampled": list(after)}, 0.25, lr=1.0)
    best = trial(tmp_path / "best", {"full": list(after), "sampled": list(before)}, 0.3, lr=2.0)
    differences = after - before
    for trials in (2, 21):
        verdict = judge(Found({}, best, first, trials), "full")
        half = student.ppf(1 - 0.025 / (trials - 1), 399) * differences.std(ddof=1) / 20
        assert verdict.gain.mean == pytest.approx(differences.mean())
        assert verdict.gain.low == pytest.approx(differences.mean() - half)
        assert not verdict.keeps_preset
        assert verdict.settings == {"lr": 2.0}
    lost = judge(Found({}, best, first, 2), "sampled")
    assert lost.gain.mean < 0
    assert lost.keeps_preset
    assert lost.settings == {}


def test_noise_keeps_the_preset(tmp_path: Path) -> None:
    """The best of many settings that are all alike."""
    rng = np.random.default_rng(1)
    first, *others = (rng.uniform(0, 1, 300) for _ in range(31))
    best = max(others, key=lambda gains: float(gains.mean()))
    assert best.mean() > first.mean()
    found = Found(
        {},
        trial(tmp_path / "best", {"full": list(best)}, float(best.mean()), lr=2.0),
        trial(tmp_path / "first", {"full": list(first)}, float(first.mean()), lr=1.0),
        31,
    )
    assert judge(found, "full").keeps_preset


def test_the_preset_is_the_best(tmp_path: Path) -> None:
    only = trial(tmp_path / "first", {"full": [0.1, 0.2]}, 0.15, lr=1.0)
    verdict = judge(Found({}, only, only, 1), "full")
    assert (verdict.gain.mean, verdict.keeps_preset) == (0, True)


def test_runs_without_users(tmp_path: Path) -> None:
    lost = Trial({}, 0.1, [tmp_path])
    with pytest.raises(ArtifactError, match="has no gains of users"):
        judge(Found({}, lost, lost, 1), "full")


@pytest.mark.parametrize("keeps", [True, False])
def test_a_written_file_is_one_of_settings(keeps: bool, tmp_path: Path) -> None:
    values = given("newton", seed=3, adapter={"kind": "hash"})
    asked, parts = resolve(values), parts_of(values)
    start = search_of(values, asked, parts).start
    other = {**start, "training.frequency_decay": 0.5, "items.dim": 64}
    first = trial(tmp_path / "first", {"full": [0.1, 0.2, 0.3]}, 0.2, **start)
    better = {"full": [0.1 if keeps else 0.5, 0.6, 0.7]}
    best = trial(tmp_path / "best", better, 0.6, **other)
    verdict = judge(Found({}, best, first, 2), "full")
    assert verdict.keeps_preset is keeps
    write_tuned(tmp_path / "tuned.toml", ["Written", "for a test"], values, verdict)
    text = (tmp_path / "tuned.toml").read_text()
    assert text.startswith("# Written\n# for a test\n")
    written = tomllib.loads(text)
    assert "seed" not in written
    assert "source" not in written["data"]
    config = resolve({**written, "data": values["data"]})
    assert config.preset == "newton"
    assert config.adapter.kind == "hash"
    assert config.items.dim == (32 if keeps else 64)
    assert config.training.frequency_decay == ("auto" if keeps else 0.5)


def test_a_verdict_of_one_user(tmp_path: Path) -> None:
    """No interval can be told, so nothing is believed."""
    first = trial(tmp_path / "first", {"full": [0.1]}, 0.1, lr=1.0)
    best = trial(tmp_path / "best", {"full": [0.9]}, 0.9, lr=2.0)
    assert judge(Found({}, best, first, 2), "full").keeps_preset
    assert isinstance(judge(Found({}, best, first, 2), "full"), Verdict)
