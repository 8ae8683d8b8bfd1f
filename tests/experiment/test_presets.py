"""Presets go by traits, not by names; what a run has used, run again without one, is the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fedpeft.adapters import adapters
from fedpeft.backbones import backbones
from fedpeft.config import merge, read_toml
from fedpeft.errors import ConfigError
from fedpeft.experiment import RunFolder, Schedule, build, prepare, presets, resolve, start
from fedpeft.experiment.config import TABLES
from fedpeft.files import read_tensors
from fedpeft.losses import losses
from fedpeft.registry import Registry
from fedpeft.simulation import RunOptions

from .test_run import Recorder
from .walked import SMALL, SPARSE, tables

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def mine() -> Iterator[None]:
    """Register parts that ship a second time, as ``mine_`` and their name."""
    registries: tuple[Registry[Any], ...] = (adapters, backbones, losses)
    added = []
    for registry in registries:
        for name in registry.names():
            part = registry.get(name)
            registry.register(f"mine_{name}", config=part.config, build=part.build)
            added.append((registry, f"mine_{name}"))
    yield
    for registry, name in added:
        registry.unregister(name)


def trained(settings: dict[str, Any]) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    run = resolve(settings)
    prepared = prepare(run)
    simulation = build(run, prepared.split, prepared.items, RunOptions())
    for _ in range(run.training.rounds):
        simulation.step()
    return simulation.bytes_summary(), dict(simulation.state.payload)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("preset", ["fedpeft", "paper", "colr", "rqfedrec", "fedras", "none"])
@pytest.mark.parametrize("kind", ["full", "lora", "hash", "rq"])
@pytest.mark.parametrize("mode", ["peft", "compress"])
def test_a_part_under_another_name_gets_the_same_settings(
    preset: str, kind: str, mode: str
) -> None:
    for backbone, loss in (("fedmf", "ials"), ("pfedrec", "softmax"), ("fedncf", "bpr")):
        usual, mine = (
            resolve(
                {
                    "preset": preset,
                    "adapter": {"kind": prefix + kind, "mode": mode},
                    "backbone": {"kind": prefix + backbone},
                    "loss": {"kind": prefix + loss},
                    "training": {"local": "gradient", "local_steps": 1} if preset == "none" else {},
                }
            )
            for prefix in ("", "mine_")
        )
        assert mine.training == usual.training
        for part in ("adapter", "backbone", "loss"):
            assert getattr(mine, part).config == getattr(usual, part).config
        assert mine.label == usual.label


@pytest.mark.usefixtures("mine")
def test_lora_under_another_name_is_trained_to_the_same_bytes() -> None:
    small = merge(SMALL, SPARSE)
    bytes_, payload = trained(small)
    again, tensors = trained({**small, "adapter": {"kind": "mine_lora"}})
    assert again == bytes_
    assert tensors.keys() == payload.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, payload[name])


def test_rules_are_of_known_traits_and_settings() -> None:
    for name in presets.names():
        for rule in presets.rules(name):
            named = set() if "when" in rule else {"adapter", "items"}
            assert set(rule) - named <= {"when", "loss", "training"}
            assert set(rule.get("when", {})) <= set(presets.TRAITS)


def test_no_preset_sets_nothing() -> None:
    assert presets.rules("none") == ()
    run = resolve({"preset": "none"})
    for name in TABLES:
        part = getattr(run, name)
        table = getattr(part, "config", part)
        assert table == type(table)()


def test_a_written_configuration_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "again"]
    asked = resolve(tables("lora"))
    start(asked, folders[0], RunOptions(), Recorder(), Schedule())
    written = RunFolder.open(folders[0])
    assert written.asked() == asked
    assert written.config() == asked.resolved(prepare(asked).split)
    file = read_toml(folders[0] / "config.toml")
    assert (file["preset"], file["from_preset"]) == ("none", "fedpeft")
    start(resolve(file), folders[1], RunOptions(), Recorder(), Schedule())
    one, two = (read_tensors(folder / "adapter" / "adapter.safetensors") for folder in folders)
    assert all(torch.equal(one[name], two[name]) for name in one)
    texts = [(folder / "config.toml").read_text() for folder in folders]
    assert texts[0] == texts[1]
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["asked"]["training"]["relative_item_decay"] == "auto"
    assert results[0]["config"]["training"]["item_decay"] > 0


def test_keys_that_are_dropped_stay_in_the_preset_and_in_what_was_given() -> None:
    """A prior at texts does not act without texts; for the next run with texts it does."""
    textless = {"preset": "newton", "items": {"base": "random"}}
    own = {"kind": "newton", "lr": 0.5, "prior": 0.0}
    for given in (textless, merge(textless, {"training": {"server_optimizer": own}})):
        before = json.dumps(given)
        assert resolve(given).training.server_optimizer.prior == 0
        assert json.dumps(given) == before
    assert resolve({"preset": "newton"}).training.server_optimizer.prior > 0


@pytest.mark.parametrize("prior", [0.0, 2.0])
@pytest.mark.parametrize("base", ["svd", "random"])
def test_a_written_second_order_configuration_is_one(
    prior: float, base: str, tmp_path: Path
) -> None:
    """Whether there are texts for a prior or not, all that is written acts."""
    settings = merge(SMALL, {"preset": "newton", "items": {"base": base}, **SPARSE})
    if base == "random":
        del settings["items"]["options"]
    else:
        settings = merge(settings, {"training": {"server_optimizer": {"prior": prior}}})
    run = resolve(settings)
    used = run.resolved(prepare(run).split)
    folder = RunFolder.create(tmp_path / "run", used, run)
    assert folder.config() == used
    assert resolve(read_toml(tmp_path / "run" / "config.toml")) == used
    assert (used.training.server_optimizer.population is None) == (not prior or base == "random")


def test_a_preset_over_settings_that_are_complete_is_refused(tmp_path: Path) -> None:
    file = resolve({"preset": "paper"}).to_file()
    assert resolve(file).preset == "paper"
    with pytest.raises(ConfigError, match="has nothing to set in a file with all settings"):
        resolve({**file, "preset": "fedpeft"})


def test_eps_that_is_set_acts_on_sparse_data() -> None:
    small = merge(SMALL, SPARSE)
    run = resolve(merge(small, {"training": {"server_optimizer": {"eps": 1e-8}}}))
    used = run.resolved(prepare(run).split).training
    assert used.server_optimizer_at("adapt").eps == 1e-8
    usual = resolve(small).resolved(prepare(run).split).training
    sparse = usual.server_optimizer_at("adapt").eps
    assert sparse is not None
    assert sparse > 1e-4
    assert used.server_optimizer_at("warmup").eps == sparse  # an optimiser of its own
