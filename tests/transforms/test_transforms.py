"""Configured transforms: clipping by hand, their order, their settings, resuming."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from fedpeft.config import ConfigModel, parse
from fedpeft.errors import ConfigError
from fedpeft.experiment import configure, resolve
from fedpeft.experiment.toml import to_toml
from fedpeft.simulation import checkpoint
from fedpeft.testing import TransformContract
from fedpeft.training import TrainingConfig
from fedpeft.transforms import TransformContext, UpdateTransform, transforms
from fedpeft.transforms.clip import Clip, ClipConfig
from toys import everything, same, toy

HEARD: list[tuple[str, str]] = []


class AddConfig(ConfigModel):
    """Settings of the transform these tests listen to."""

    value: float = 1.0
    """What it adds."""


class Add(UpdateTransform):
    """Adds a value on the client and takes it off the mean."""

    dense = True

    def __init__(self, config: AddConfig, context: TransformContext) -> None:
        self.value = config.value

    def on_user(self, change: dict[str, Tensor], users: Tensor) -> dict[str, Tensor]:
        HEARD.append(("user", f"add {self.value:g}"))
        return {name: tensor + self.value for name, tensor in change.items()}

    def on_mean(self, change: dict[str, Tensor], clients: int) -> dict[str, Tensor]:
        HEARD.append(("mean", f"add {self.value:g}"))
        return {name: tensor - self.value for name, tensor in change.items()}


class Double(Add):
    """Doubles on the client and halves the mean."""

    def on_user(self, change: dict[str, Tensor], users: Tensor) -> dict[str, Tensor]:
        HEARD.append(("user", "double"))
        return {name: tensor * 2 for name, tensor in change.items()}

    def on_mean(self, change: dict[str, Tensor], clients: int) -> dict[str, Tensor]:
        HEARD.append(("mean", "double"))
        return {name: tensor / 2 for name, tensor in change.items()}


@pytest.fixture(autouse=True, scope="module")
def own_transforms() -> Iterator[None]:
    """Register them for these tests only."""
    own = {"add_for_test": Add, "double_for_test": Double}
    for name, build in own.items():
        transforms.register(name, config=AddConfig, build=build)
    yield
    for name in own:
        transforms.unregister(name)


class TestClip(TransformContract):
    kind = "clip"
    config: ClassVar = {"norm": 0.05}


class TestAdd(TransformContract):
    kind = "add_for_test"


def test_clip_scales_what_is_too_long_and_nothing_else() -> None:
    change = {
        "a": torch.tensor([[3.0, 0.0], [0.3, 0.0], [0.0, 0.0]]),
        "b": torch.tensor([4.0, 0.4, 0.0]),  # one plain number per client
    }
    clip = Clip(ClipConfig(norm=1.0), TransformContext(clients=3, seed=0))
    found = clip.on_user(change, torch.arange(3))
    torch.testing.assert_close(found["a"], torch.tensor([[0.6, 0.0], [0.3, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(found["b"], torch.tensor([0.8, 0.4, 0.0]))


@pytest.mark.parametrize("adapter", ["full", "lora", "hash"])
def test_nobody_moves_the_payload_further_than_the_norm(adapter: str) -> None:
    free, clipped = toy(adapter), toy(adapter, transforms={"clip": {"norm": 1e-3}})
    lengths = []
    for run in (free, clipped):
        run = run.with_training(server_optimizer={"kind": "sgd", "lr": 1.0})
        simulation = run.simulation()
        before = {n: p.detach().clone() for n, p in simulation.server.parameters().items()}
        simulation.step()
        moved = [p.detach() - before[n] for n, p in simulation.server.parameters().items()]
        lengths.append(math.sqrt(sum(float(tensor.square().sum()) for tensor in moved)))
    assert lengths[0] > 1e-2
    assert 0 < lengths[1] <= 1e-3 * (1 + 1e-4)


@pytest.mark.parametrize("order", [("add", "double"), ("double", "add")])
def test_clients_go_in_order_and_the_server_back(order: tuple[str, str]) -> None:
    """So what both halves do cancels, whatever the order."""
    tables = {f"{name}_for_test": {} for name in order}
    sgd = {"kind": "sgd", "lr": 0.5}
    run = toy(server_optimizer=sgd, transforms=tables)
    simulation, plain = run.simulation(), toy(server_optimizer=sgd).simulation("vmap")
    HEARD.clear()
    simulation.step()
    plain.step()
    spoken = {"add": "add 1", "double": "double"}
    users = [who for half, who in HEARD if half == "user"]
    assert users[:2] == [spoken[name] for name in order]
    assert HEARD[-2:] == [("mean", spoken[name]) for name in reversed(order)]
    torch.testing.assert_close(simulation.item_vectors(), plain.item_vectors())


def test_encoding_comes_last() -> None:
    simulation = toy(encoding="float16", transforms={"clip": {}}).simulation()
    assert [type(part).__name__ for part in simulation.transforms] == ["Clip", "Encoding"]


def test_shared_plan_is_refused() -> None:
    assert toy().simulation().backend == "fused"
    run = toy(transforms={"clip": {}})
    assert run.simulation().backend == "vmap"
    with pytest.raises(ConfigError, match="each client's update is transformed"):
        run.simulation("fused")


def test_resumes_bit_for_bit(tmp_path: Path) -> None:
    run = toy("lora", transforms={"clip": {"norm": 0.01}}, encoding="int8", refresh_every=2)
    straight, stopped, resumed = (run.simulation() for _ in range(3))
    for _ in range(6):
        straight.step()
    for _ in range(3):
        stopped.step()
    checkpoint.save(stopped, tmp_path / "state")
    checkpoint.load(resumed, tmp_path / "state")
    for _ in range(3):
        resumed.step()
    assert same(everything(straight), everything(resumed))


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({"clap": {}}, "unknown transform 'clap'; known are .*clip"),
        ({"clip": {"norm": 0}}, "clip.norm = 0: "),
        ({"clip": {"length": 1}}, "unknown key 'clip.length'; known keys here are norm"),
        ({"clip": 3}, "clip = 3: must be a table"),
        ([{"kind": "clip"}], "training.transforms = "),
    ],
)
def test_wrong_settings_are_refused(tables: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        parse(TrainingConfig, {"transforms": tables}, "training")
    assert str(caught.value).startswith(("training.transforms", "unknown key"))


def test_settings_are_completed_and_survive_a_config_file() -> None:
    config = configure(
        settings=["training.transforms.clip={}", "training.transforms.add_for_test.value=0.5"]
    )
    assert config.training.transforms == {"clip": {"norm": 1.0}, "add_for_test": {"value": 0.5}}
    assert list(config.training.transforms) == ["clip", "add_for_test"]
    again = resolve(tomllib.loads(to_toml(config.to_dict())))
    assert again == config
    assert list(again.training.transforms) == ["clip", "add_for_test"]
