"""Settings under which nothing, or no client, would ever learn."""

from __future__ import annotations

from fedpeft.adapters import AdapterConfig
from fedpeft.errors import ConfigError
from fedpeft.experiment.config import RunConfig
from fedpeft.items.config import TEXTLESS


def check_start(run: RunConfig) -> None:
    """Raise `ConfigError` for settings that contradict each other across tables."""
    _check_base(run)
    _check_base_codes(run)
    training = run.training
    if training.local == "gradient" and not (training.local_steps or training.joint):
        raise ConfigError(
            "training.local = 'gradient' with local_steps = 0 never trains clients' local "
            "parameters; set local_steps to 1 or more, or joint = true"
        )


def _check_base(run: RunConfig) -> None:
    """Refuse a zero base that nothing can be learnt or made from."""
    adapter = run.adapter.config
    assert isinstance(adapter, AdapterConfig)
    if run.items.base not in TEXTLESS:
        return
    if run.items.base == "none" and run.training.local == "solve" and adapter.mode == "peft":
        # zero item vectors give zero user vectors, and those give zero gradients
        raise ConfigError(
            "items.base = 'none' starts every item vector at zero, where training.local = "
            "'solve' never leaves; use another base, or adapter.mode = 'compress', which starts "
            "at random"
        )
    if adapter.reads_text:
        raise ConfigError(
            "adapter.source = 'text' makes codes from the items' encoded texts, of which "
            f"items.base = {run.items.base!r} has none; use another base, or adapter.source = "
            "'table'"
        )


def _check_base_codes(run: RunConfig) -> None:
    """Refuse codes for a base that is not there, or not used."""
    adapter = run.adapter.config
    assert isinstance(adapter, AdapterConfig)
    if run.items.base_codes is None:
        return
    if run.items.base in TEXTLESS:
        raise ConfigError(
            f"items.base_codes need a base to stand for, which items.base = {run.items.base!r} is "
            "not; use another base, or leave them out"
        )
    if adapter.mode == "compress":
        raise ConfigError(
            "items.base_codes stand for the base, and adapter.mode = 'compress' has none; use "
            "adapter.mode = 'peft', or leave them out"
        )
    if run.training.warmup_rounds:
        raise ConfigError(
            "items.base_codes make the download of the base smaller, but with "
            f"training.warmup_rounds = {run.training.warmup_rounds} clients download the table "
            "that the warm-up ends with; set it to 0"
        )
