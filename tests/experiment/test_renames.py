"""Names of earlier versions: accepted with one warning each, and read from old run folders."""

from __future__ import annotations

import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest

from fedpeft.errors import ConfigError, RenamedWarning
from fedpeft.experiment import RunFolder, configure, resolve

OLD = """\
seed = 3
recipe = "fedpeft"

[data]
source = "synthetic"

[evaluation]
every = 50
centralised_floor = false

[items]
base = "svd"

[adapter]
kind = "{adapter}"
mode = "{mode}"
init_std = 0.1
{zero}
[backbone]
kind = "fedmf"

[loss]
kind = "ials"

[training]
rounds = 100
cohort = 0.1
warmup_rounds = {warmup}
refresh_every = {refresh}
private = "solve"
private_steps = 0
private_schedule = "constant"
private_decay = 1.0
payload_steps = 1
joint = false
sparse_eps = {eps}
server_schedule = "cosine"
inference = "fit"
encoding = "{encoding}"

[training.recency]
half_life = 0.0
floor = 0.1

[training.private_optimizer]
kind = "adam"
lr = 0.1
eps = 1e-08

[training.server_optimizer]
kind = "adam"
lr = {lr}
eps = 1e-08
"""
"""As a version before wrote it, with every key; here some are left out that have their default."""


def old(adapter: str, mode: str) -> str:
    lora, peft = adapter == "lora", mode == "peft"
    return OLD.format(
        adapter=adapter,
        mode=mode,
        zero='zero = "A"\n' if lora else "",
        warmup=20 if lora and peft else 0,
        refresh=50 if lora and peft else 0,
        eps=0.003 if peft else 0.0,
        encoding="int8" if lora else "float32",
        lr=0.05 if lora else 0.01,
    )


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("mode", ["peft", "compress"])
def test_old_run_folders_resolve_without_a_word(adapter: str, mode: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(old(adapter, mode))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = RunFolder.open(tmp_path).config()
        assert RunFolder.open(tmp_path).asked() == found
        assert configure(tmp_path / "config.toml") == found
    now = {
        "seed": 3,
        "evaluation": {"every": 50, "centralised_baseline": False},
        "items": {"base": "svd"},
        "adapter": {"kind": adapter, "mode": mode},
        "training": {"rounds": 100, "recency": {"half_life": 0.0}},
    }
    if adapter == "lora":
        now["training"]["encoding"] = "int8"  # type: ignore[index]
    assert found == resolve(now)
    assert found.preset == "fedpeft"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"recipe": "paper"}, {"preset": "paper"}),
        ({"training": {"private": "gradient"}}, {"training": {"local": "gradient"}}),
        (
            {"loss": {"kind": "bpr"}, "training": {"private_steps": 7}},
            {"loss": {"kind": "bpr"}, "training": {"local_steps": 7}},
        ),
        (
            {"loss": {"kind": "bpr"}, "training": {"private_optimizer": {"lr": 0.5}}},
            {"loss": {"kind": "bpr"}, "training": {"local_optimizer": {"lr": 0.5}}},
        ),
        ({"training": {"private_decay": 0.5}}, {"training": {"local_decay": 0.5}}),
        ({"loss": {"alpha0": 0.5}}, {"loss": {"unobserved_weight": 0.5}}),
        (
            {"evaluation": {"centralised_floor": False}},
            {"evaluation": {"centralised_baseline": False}},
        ),
        (
            {"recipe": "fedpeft", "training": {"item_decay": 0.5}},
            {"preset": "fedpeft", "training": {"relative_item_decay": 0.5}},
        ),
    ],
)
def test_old_keys_work_with_a_warning(before: dict[str, Any], now: dict[str, Any]) -> None:
    with pytest.warns(RenamedWarning, match="the old name works until the next release"):
        found = resolve(before)
    assert found == resolve(now)


def test_the_new_meaning_of_item_decay_is_told() -> None:
    with pytest.warns(RenamedWarning, match="the whole factor now"):
        assert resolve({"training": {"item_decay": 0.5}}).training.item_decay == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resolve({"preset": "fedpeft", "training": {"item_decay": 0.5}})


def test_old_names_in_files_and_settings(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('recipe = "paper"\n[training]\nprivate_decay = 0.5\n')
    with pytest.warns(RenamedWarning):
        found = configure(file, preset="fedpeft", settings=["training.private_decay=0.25"])
    assert (found.preset, found.training.local_decay) == ("fedpeft", 0.25)


def test_one_of_two_names() -> None:
    both = tomllib.loads('preset = "paper"\nrecipe = "paper"')
    with pytest.raises(ConfigError, match="recipe is called preset now, and both are given"):
        resolve(both)
