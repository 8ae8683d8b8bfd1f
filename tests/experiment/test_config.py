"""Resolving settings: what wins, what is refused, and that writing them down loses nothing."""

from __future__ import annotations

import math
import tomllib
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.config import parse_override
from fedpeft.errors import ConfigError, DataError
from fedpeft.experiment import EvaluationConfig, RunConfig, configure, resolve
from fedpeft.records.toml import to_toml

GRID = [
    {"preset": preset, "adapter": {"kind": kind, "mode": mode}, "loss": {"kind": loss}}
    for preset, kind, mode, loss in product(
        ("fedpeft", "paper"),
        ("full", "lora", "hash", "rq"),
        ("peft", "compress"),
        ("ials", "bpr", "bce", "softmax"),
    )
]


@pytest.mark.parametrize("values", GRID, ids=str)
def test_resolved_settings_are_a_fixed_point(values: dict[str, Any]) -> None:
    config = resolve(values)
    assert resolve(config.to_dict()) == config
    assert resolve(tomllib.loads(to_toml(config.to_dict()))) == config


def test_defaults() -> None:
    config = resolve({})
    assert (config.seed, config.preset, config.data.source) == (0, "fedpeft", "synthetic")
    assert (config.backbone.kind, config.loss.kind, config.adapter.kind) == (
        "fedmf",
        "ials",
        "lora",
    )
    assert config.training.local == "solve"
    assert config.training.warmup_rounds == 40


@pytest.mark.parametrize(("rounds", "warmup"), [(0, 0), (4, 0), (5, 1), (99, 19), (5000, 40)])
def test_short_runs_warm_up_shortly(rounds: int, warmup: int) -> None:
    assert resolve({"training": {"rounds": rounds}}).training.warmup_rounds == warmup


@pytest.mark.parametrize("adapter", [{"kind": "full"}, {"mode": "compress"}])
def test_no_warmup_without_a_base_to_end_in(adapter: dict[str, str]) -> None:
    training = resolve({"adapter": adapter}).training
    assert (training.warmup_rounds, training.refresh_every) == (0, 0)
    assert (training.sparse_eps == 0) == (adapter.get("mode") == "compress")


def test_preset_below_file_below_option(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'preset = "paper"\n[training]\nrounds = 7\nlocal_optimizer = { lr = 0.5 }\n'
        "[adapter]\nrank = 2\n"
    )
    config = configure(file, rounds=9, settings=["adapter.rank=3", "loss.kind='bce'"])
    assert config.training.payload_steps == 2  # the preset's
    assert config.training.local_optimizer.lr == 0.5  # the file's
    assert config.training.local_optimizer.kind == "adam"  # the preset's, beside the file's
    assert config.training.rounds == 9  # the option's
    assert config.adapter.config.model_dump()["rank"] == 3  # the override's
    assert config.loss.kind == "bce"


@settings(deadline=None)
@given(st.integers(0, 1_000_000))
def test_a_curve_has_at_least_twenty_points_and_fewer_than_forty(rounds: int) -> None:
    config = resolve({"training": {"rounds": rounds}})
    assert config.to_file()["evaluation"]["every"] == config.evaluation.every
    points = math.ceil(rounds / config.evaluation.every)  # the last one is after the last round
    assert min(rounds, 20) <= points < 40


def test_an_interval_that_is_given_stays() -> None:
    asked = {"training": {"rounds": 100}, "evaluation": {"every": 50}}
    assert resolve(asked).evaluation.every == 50
    assert resolve(resolve(asked).to_file()) == resolve(asked)
    assert resolve({}).evaluation == EvaluationConfig()  # the page of settings tells its default


def test_the_best_loss_of_a_preset() -> None:
    assert resolve({"preset": "paper"}).loss.kind == "bpr"
    assert resolve({"loss": {"kind": "bpr"}}).training.local == "gradient"


def test_gradient_steps_bring_their_own_defaults() -> None:
    training = resolve({"training": {"local": "gradient"}}).training
    assert training.local_steps > 0
    assert training == resolve({"loss": {"kind": "bpr"}}).training


def test_one_warm_up_for_all_adapters_of_a_loss() -> None:
    full = resolve({"adapter": {"kind": "full"}, "loss": {"kind": "bpr"}}).training
    for kind in ("lora", "hash", "rq"):
        training = resolve({"adapter": {"kind": kind}}).training
        assert training.warmup_rounds == 40
        assert training.warmup_optimizer is not None
        assert training.warmup_optimizer.lr == 0.05
        alone = resolve({"adapter": {"kind": kind, "mode": "compress"}}).training
        assert (alone.warmup_rounds, alone.warmup_optimizer, alone.sparse_eps) == (0, None, 0.0)
        steps = resolve({"adapter": {"kind": kind}, "loss": {"kind": "bpr"}}).training
        assert (steps.warmup_rounds, steps.warmup_optimizer) == (100, None)
        assert steps.server_optimizer == full.server_optimizer
        assert resolve({"adapter": {"kind": kind}, "preset": "paper"}).training.warmup_rounds == 20
    assert resolve({"adapter": {"kind": "full"}}).training.warmup_optimizer is None


def test_an_encoding_asked_for_is_for_both_directions() -> None:
    ours = resolve({"adapter": {"kind": "hash"}}).training
    assert (ours.encoding, ours.download_encoding) == ("int8", "int8")
    steps = resolve({"adapter": {"kind": "hash"}, "loss": {"kind": "bpr"}}).training
    assert (steps.encoding, steps.download_encoding) == ("int8", "int8")
    senet = {"adapter": {"kind": "hash", "pooling": "senet"}}
    for values, upload in (({}, "float32"), ({"loss": {"kind": "bpr"}}, "int8")):
        narrow = resolve({**senet, **values}).training
        assert (narrow.encoding, narrow.download_encoding) == (upload, "int8")
    assert resolve({"training": {"encoding": "int8"}}).training.download_encoding is None
    both = {"encoding": "float16", "download_encoding": "int8"}
    assert resolve({"training": both}).training.download_encoding == "int8"
    assert resolve({"preset": "paper"}).training.download_encoding is None


def test_zero_base_where_it_can_learn() -> None:
    for values in (
        {"adapter": {"mode": "compress"}},
        {"loss": {"kind": "bpr"}},
        {"preset": "paper"},
    ):
        assert resolve({**values, "items": {"base": "none"}}).items.base == "none"


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({"adapter": {"kind": "full"}}, "Full"),
        ({"adapter": {"kind": "full", "mode": "compress"}}, "C-Full"),
        ({"adapter": {"kind": "lora", "rank": 8}}, "P-LoRA r=8"),
    ],
)
def test_label(values: dict[str, Any], label: str) -> None:
    assert resolve(values).label == label


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("a=1", ["a"], 1),
        ("a.b = 1e-3", ["a", "b"], 1e-3),
        ("a=true", ["a"], True),
        ("a=word", ["a"], "word"),
        ("a='1'", ["a"], "1"),
        ("a=[1, 2]", ["a"], [1, 2]),
        ("a=x=y", ["a"], "x=y"),
        ("a=", ["a"], ""),
        ("a={b = 1}", ["a"], {"b": 1}),
    ],
)
def test_override(text: str, path: list[str], value: object) -> None:
    assert parse_override(text) == (path, value)


def test_sources_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    assert configure(data="data").data.source == str(tmp_path / "data")
    assert configure(data="synthetic").data.source == "synthetic"
    with pytest.raises(DataError, match="neither 'synthetic' nor a folder or a file that exists"):
        configure(data="other")


def test_configs_compare_and_are_frozen() -> None:
    config = resolve({})
    assert config == resolve({})
    assert config != resolve({"seed": 1})
    assert isinstance(config, RunConfig)
    with pytest.raises(AttributeError):
        config.seed = 1  # type: ignore[misc]


def test_unknown_keys_of_an_optional_table_name_those_of_the_table() -> None:
    with pytest.raises(ConfigError, match=r"warmup_optimizer\.rate'; known keys here are beta1"):
        resolve({"training": {"warmup_optimizer": {"rate": 1}}})


def test_unknown_keys_name_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="known keys here are adapter, backbone, data"):
        resolve({"adaptor": {}})


def test_codes_from_text_have_nothing_to_refresh() -> None:
    text = {"kind": "rq", "source": "text"}
    assert resolve({"adapter": text}).training.refresh_every == 0
    assert resolve({"adapter": {"kind": "rq"}}).training.refresh_every == 25
    with pytest.raises(ConfigError, match=r"needs an adapter .* a subspace to renew"):
        resolve({"adapter": text, "training": {"refresh_every": 25}})


def test_a_warm_up_ends_before_the_run() -> None:
    assert resolve({"training": {"rounds": 0}}).training.warmup_rounds == 0
    with pytest.raises(ConfigError, match=r"warmup_rounds \(20\) must be below rounds \(20\)"):
        resolve({"training": {"rounds": 20, "warmup_rounds": 20}})
