"""A run that was stopped and resumed is the run that was not."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fedpeft.errors import ArtifactError
from fedpeft.files import read_metadata, read_tensors, write_tensors
from fedpeft.simulation import checkpoint
from fedpeft.testing import Toy
from toys import ADAPTERS, NEWTON, SGD, everything, made_split, newton, same, toy

PHASES = {"warm-up": 2, "warm-up's end": 3, "between": 4, "refresh": 5, "after the merge": 6}
"""Rounds done when the checkpoint is written: warm-up takes 3, merges come every 2."""


def phased(adapter: str, **training: Any) -> Toy:
    return toy(adapter, warmup_rounds=3, refresh_every=2, **training)


def resumed_equals_whole(run: Toy, done: int, path: Path) -> None:
    whole = run.simulation()
    for _ in range(done):
        whole.step()
    checkpoint.save(whole, path, {"logs": [1, 2]})
    resumed = run.simulation()
    assert checkpoint.load(resumed, path) == {"logs": [1, 2]}
    assert resumed.round == done
    assert same(everything(resumed), everything(whole))
    for _ in range(4):
        here, there = whole.step(), resumed.step()
        assert asdict(here.entry) == asdict(there.entry)
        assert here.loss == there.loss
    assert same(everything(resumed), everything(whole))
    assert resumed.traffic.state() == whole.traffic.state()


@pytest.mark.parametrize("done", PHASES.values(), ids=PHASES)
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("encoding", ["float32", "int8", "int4"])
def test_resumes_exactly(adapter: str, encoding: str, done: int, tmp_path: Path) -> None:
    resumed_equals_whole(phased(adapter, encoding=encoding), done, tmp_path / "checkpoint")


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("done", [0, 3])
def test_resumes_exactly_without_a_base(adapter: str, done: int, tmp_path: Path) -> None:
    resumed_equals_whole(toy(adapter, mode="compress"), done, tmp_path / "checkpoint")


def test_resumes_exactly_with_momentum(tmp_path: Path) -> None:
    run = phased("lora", server_optimizer={**SGD, "momentum": 0.9})
    resumed_equals_whole(run, 4, tmp_path / "checkpoint")


@pytest.mark.parametrize("done", PHASES.values(), ids=PHASES)
def test_resumes_exactly_with_an_optimiser_for_the_warm_up(done: int, tmp_path: Path) -> None:
    own = {"kind": "adam", "lr": 0.1, "eps": 1e-3}
    run = phased("lora", warmup_optimizer=own, server_optimizer={**SGD, "momentum": 0.9})
    resumed_equals_whole(run, done, tmp_path / "checkpoint")


@pytest.mark.parametrize("done", PHASES.values(), ids=PHASES)
@pytest.mark.parametrize("adapter", ["lora", "hash"])
def test_resumes_exactly_with_a_second_order_server(
    adapter: str, done: int, tmp_path: Path
) -> None:
    prior = {**NEWTON["server_optimizer"], "momentum": 0.5, "prior": 2.0, "prior_at": "base"}
    run = newton(adapter, warmup_rounds=3, refresh_every=2, server_optimizer=prior)
    resumed_equals_whole(run, done, tmp_path / "checkpoint")


def test_saving_changes_nothing(tmp_path: Path) -> None:
    simulation = phased("lora", encoding="int8").simulation()
    simulation.step()
    before = everything(simulation)
    checkpoint.save(simulation, tmp_path / "checkpoint")
    assert same(everything(simulation), before)


def saved(path: Path, adapter: str = "lora") -> Toy:
    run = phased(adapter)
    simulation = run.simulation()
    for _ in range(6):
        simulation.step()
    checkpoint.save(simulation, path)
    return run


def refused(run: Toy, path: Path) -> str:
    """Load a checkpoint that must not load; return what was said, and check nothing changed."""
    simulation = run.simulation()
    before, traffic = everything(simulation), simulation.traffic.state()
    with pytest.raises(ArtifactError) as caught:
        checkpoint.load(simulation, path)
    assert simulation.round == 0
    assert simulation.state.to_dict() == run.simulation().state.to_dict()
    assert simulation.traffic.state() == traffic
    assert same(everything(simulation), before)
    simulation.step()
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert path.name in said
    return said


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, Path]:
    path = tmp_path_factory.mktemp("good") / "checkpoint"
    return saved(path), path


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(good: tuple[Toy, Path], place: float, bit: int) -> None:
    run, path = good
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    bad = path.with_name("flipped-checkpoint")
    bad.write_bytes(data)
    simulation = run.simulation()
    before = everything(simulation)
    with pytest.raises(ArtifactError):
        checkpoint.load(simulation, bad)
    assert same(everything(simulation), before)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_file_is_refused(good: tuple[Toy, Path], keep: int) -> None:
    run, path = good
    bad = path.with_name("cut-checkpoint")
    bad.write_bytes(path.read_bytes()[:keep])
    refused(run, bad)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    run = phased("lora")
    refused(run, tmp_path / "missing-checkpoint")
    folder = tmp_path / "folder-checkpoint"
    folder.mkdir()
    refused(run, folder)
    text = tmp_path / "text-checkpoint"
    text.write_text("not a safetensors file at all, but long enough to look like one")
    refused(run, text)
    plain = tmp_path / "plain-checkpoint"
    save_file({"x": torch.zeros(2)}, plain)
    assert "not a fedpeft checkpoint" in refused(run, plain)
    for nonsense in ("[1]", "3", "{", "null"):
        save_file({"x": torch.zeros(2)}, plain, {"fedpeft": nonsense})
        assert "not a fedpeft checkpoint" in refused(run, plain)


def test_other_schema_is_refused(good: tuple[Toy, Path]) -> None:
    run, path = good
    metadata = read_metadata(path)
    state = {**json.loads(metadata["fedpeft"]), "schema": 99}
    bad = path.with_name("newer-checkpoint")
    write_tensors(bad, read_tensors(path), {**metadata, "fedpeft": json.dumps(state)})
    assert "schema 99" in refused(run, bad)


def test_swapped_tensors_are_noticed(good: tuple[Toy, Path]) -> None:
    run, path = good
    tensors = read_tensors(path)
    name = "server/moments/item.A|exp_avg"
    tensors[name] = tensors[name] + 1
    bad = path.with_name("swapped-checkpoint")
    write_tensors(bad, tensors, read_metadata(path))
    assert "checksum" in refused(run, bad)


@pytest.mark.parametrize(
    ("other", "key"),
    [
        ({"seed": 1}, "seed"),
        ({"adapter": ("lora", {"rank": 4})}, "adapter.rank"),
        ({"adapter": ADAPTERS["rq"]}, "adapter."),
        ({"adapter": ADAPTERS["full"]}, "adapter."),
    ],
)
def test_other_settings_are_named(good: tuple[Toy, Path], other: dict[str, Any], key: str) -> None:
    run, path = good
    assert f"saved with {key}" in refused(replace(run, **other), path)


def test_other_training_is_named(good: tuple[Toy, Path]) -> None:
    run, path = good
    said = refused(run.with_training(server_optimizer={**SGD, "momentum": 0.5}), path)
    assert "training.server_optimizer." in said


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("what", ["users", "items", "dims"])
def test_other_sizes_are_refused(adapter: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    run = saved(path, adapter)
    if what == "dims":
        refused(replace(run, dim=5), path)
    else:
        n_users, n_items = (11, 15) if what == "users" else (12, 16)
        refused(replace(run, split=made_split([2] * n_users, n_items)), path)
