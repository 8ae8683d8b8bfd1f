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

from fedpeft.client import Pipeline
from fedpeft.config import ConfigModel, parse
from fedpeft.errors import ConfigError
from fedpeft.experiment import configure, resolve
from fedpeft.records.toml import to_toml
from fedpeft.simulation import checkpoint
from fedpeft.testing import TransformContract
from fedpeft.training import TrainingConfig
from fedpeft.transforms import UpdateTransform, transforms
from fedpeft.transforms.clip import Clip, ClipConfig
from toys import everything, same, toy


class AddConfig(ConfigModel):
    """Settings of these transforms."""

    value: float = 1.0
    """What it adds."""


class Add(UpdateTransform):
    """Adds a value."""

    dense = True

    def __init__(self, config: AddConfig, seed: int) -> None:
        self.value = config.value

    def on_user(self, change: dict[str, Tensor], ids: Tensor) -> dict[str, Tensor]:
        return {name: tensor + self.value for name, tensor in change.items()}


class Double(Add):
    """Doubles."""

    def on_user(self, change: dict[str, Tensor], ids: Tensor) -> dict[str, Tensor]:
        return {name: tensor * 2 for name, tensor in change.items()}


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
    clip = Clip(ClipConfig(norm=1.0), 0)
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
        before = simulation.state.payload
        simulation.step()
        moved = [t - before[n] for n, t in simulation.state.payload.items()]
        lengths.append(math.sqrt(sum(float(tensor.square().sum()) for tensor in moved)))
    assert lengths[0] > 1e-2
    assert 0 < lengths[1] <= 1e-3 * (1 + 1e-4)


def pipeline_of(loss: str = "ials", **training: Any) -> Pipeline:
    """Return the pipeline of a full table's run, at its first round."""
    simulation = toy("full", loss, **training).simulation()
    simulation.pipeline.begin(0, simulation.replica.backbone)
    return simulation.pipeline


@pytest.mark.parametrize(
    ("order", "found"), [(("add", "double"), 2 * (3 + 1)), (("double", "add"), 2 * 3 + 1)]
)
def test_transforms_go_in_the_order_they_are_written(order: tuple[str, str], found: int) -> None:
    pipeline = pipeline_of(transforms={f"{name}_for_test": {} for name in order})
    assert pipeline.dense
    sent = pipeline.transform(
        {"x": torch.full((2, 3), 3.0)}, torch.arange(2), torch.tensor([1.0, 5.0])
    )
    assert sent["x"].tolist() == [[found] * 3, [5 * found] * 3]  # the weight comes after them


def test_a_weight_does_not_lengthen_what_clipping_allows() -> None:
    """A client of weight 5 sends 5 times a clipped change, never a clipped one of 5 times it."""
    pipeline = pipeline_of(transforms={"clip": {"norm": 1.0}})
    change = {"x": torch.tensor([[3.0, 4.0], [0.3, 0.4]])}
    sent = pipeline.transform(change, torch.arange(2), torch.tensor([5.0, 5.0]))
    torch.testing.assert_close(sent["x"], torch.tensor([[3.0, 4.0], [1.5, 2.0]]))


def test_masks_come_before_the_transforms_of_the_settings() -> None:
    task = toy(transforms={"clip": {}, "add_for_test": {}}).simulation().task
    mask = Double(AddConfig(), 0)
    pipeline = Pipeline(task, [mask])
    assert pipeline.transforms[0] is mask
    assert [type(part).__name__ for part in pipeline.transforms] == ["Double", "Clip", "Add"]


def test_encoding_comes_last() -> None:
    """A transformed value that half precision does not have is rounded once it is sent."""
    pipeline = pipeline_of(encoding="float16", transforms={"add_for_test": {"value": 2048.0}})
    sent = pipeline.transform({"x": torch.ones(1, 1)}, torch.zeros(1).long(), torch.ones(1))
    assert sent["x"].item() == 2049
    assert pipeline.arrived(sent, torch.zeros(1).long())["x"].item() == 2048


def test_fused_backend_is_refused() -> None:
    assert toy().simulation().backend == "fused"
    run = toy(transforms={"clip": {}})
    assert run.simulation().backend == "vmap"
    with pytest.raises(ConfigError, match=r"each client.s update is encoded or transformed"):
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
