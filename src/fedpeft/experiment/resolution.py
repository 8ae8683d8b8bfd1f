"""From a config file's tables to a complete, checked configuration."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedpeft.adapters import AdapterConfig, adapters
from fedpeft.backbones import backbones
from fedpeft.config import merge, parse
from fedpeft.data import DataConfig
from fedpeft.errors import ConfigError
from fedpeft.experiment import presets, renames
from fedpeft.experiment.acting import idle
from fedpeft.experiment.checks import check_start
from fedpeft.experiment.config import (
    TABLES,
    Choice,
    EvaluationConfig,
    RunConfig,
    usual_interval,
)
from fedpeft.items import ItemsConfig
from fedpeft.losses import losses
from fedpeft.registry import Registry
from fedpeft.training import TrainingConfig
from fedpeft.training.task import no_user_vector

Tables = dict[str, Any]
DEFAULTS = {"adapter": "lora", "backbone": "fedmf", "loss": "ials"}
"""The parts of a run that names none, where its preset names none either."""
NOTHING_TO_FIT = (
    "training.inference = 'fit' has nothing to fit with local_steps = 0; set local_steps to 1 or "
    "more, or use inference = 'stored'"
)


@dataclass(frozen=True)
class Settled:
    """A configuration, and what was asked of it in vain.

    Attributes
    ----------
    idle
        Given keys that do not act, dotted, each with a sentence that says why.
    """

    run: RunConfig
    idle: Mapping[str, str]


def resolve(values: Mapping[str, Any], *, lenient: bool = False) -> RunConfig:
    """Turn a config file's tables into a complete, checked configuration.

    Settings come from, in rising order: the parts' own defaults, the preset's, `values`.

    Parameters
    ----------
    lenient
        Drop keys that do not act instead of refusing them, as for comparisons of parts under the
        settings of one of them.

    Raises
    ------
    ConfigError
        If a key is unknown or does not act, a value is out of range, or settings contradict each
        other.
    """
    found = settle(values)
    if not lenient:
        for sentence in found.idle.values():
            raise ConfigError(sentence)
    return found.run


def settle(values: Mapping[str, Any]) -> Settled:
    """Do what `resolve` does, but drop keys that do not act, and tell them.

    Files that an earlier version has written have such keys; they are dropped without a word.
    """
    earlier = renames.written_earlier(values, TABLES)
    given = renames.upgrade(values, quiet=earlier)
    if earlier:
        renames.open_eps(given)
    preset = _check_top(given)
    laid, vain = _laid(preset, given)
    tables = copy.deepcopy(laid)  # keys go out of it, not out of the preset or what was given
    while True:
        run = _parsed(given, tables)
        found = idle(run)
        if not found:
            break
        for each in found:
            if (wanted := each.set_in(given)) is not None:
                key = ".".join(wanted[0])
                vain[key] = (
                    f"{key} = {wanted[1]!r} would not act: it needs {each.needs}; leave it out, or "
                    "change what it needs"
                )
        removed = [_remove(tables, each.key) for each in found]
        assert any(removed), f"{found[0].key} does not act, but nothing has set it"
    check_start(run)
    return Settled(run, {} if earlier else vain)


def _check_top(given: Mapping[str, Any]) -> str:
    """Check what stands outside the tables; return the preset."""
    known = {"seed", "preset", "from_preset", *TABLES}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigError(
            f"unknown key {unknown[0]!r}; known keys here are {', '.join(sorted(TABLES))}, "
            "preset, seed"
        )
    for name in TABLES:
        if not isinstance(given.get(name, {}), Mapping):
            raise ConfigError(f"{name} = {given[name]!r}: must be a table of settings")
    seed = given.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"seed = {seed!r}: must be a whole number, 0 or more")
    if seed >= 2**63:
        raise ConfigError(f"seed = {seed!r}: must be below 2^63, what TOML has room for")
    preset, note = given.get("preset", "fedpeft"), given.get("from_preset")
    if preset not in presets.names():
        raise presets.unknown(preset)
    if note is not None and (preset != presets.NONE or not isinstance(note, str)):
        raise ConfigError(
            f"preset = {preset!r} has nothing to set in a file with all settings of a run "
            f"(from_preset = {note!r}); give another file, or no preset"
        )
    return str(preset)


def _parsed(given: Mapping[str, Any], tables: Tables) -> RunConfig:
    """Return the configuration of complete tables."""
    return RunConfig(
        seed=given.get("seed", 0),
        data=parse(DataConfig, tables["data"], "data"),
        evaluation=parse(EvaluationConfig, tables["evaluation"], "evaluation"),
        items=parse(ItemsConfig, tables["items"], "items"),
        adapter=_choice(adapters, tables["adapter"], "adapter"),
        backbone=_choice(backbones, tables["backbone"], "backbone"),
        loss=_choice(losses, tables["loss"], "loss"),
        training=parse(TrainingConfig, tables["training"], "training"),
        preset=given.get("from_preset", given.get("preset", "fedpeft")),
    )


def _laid(preset: str, given: Tables) -> tuple[Tables, dict[str, str]]:
    """Return the given tables laid over those of a preset, whose rules ask for traits.

    With them come sentences on given keys that do not act, as in `Settled`.
    """
    tables: Tables = {name: dict(given.get(name, {})) for name in TABLES}
    backbone = backbones.get(_kind(backbones, tables["backbone"], "backbone")).build
    traits = {"user_vector": getattr(backbone, "user_vector", None) is not None}
    found = presets.settings(preset, traits)
    for name in ("items", "adapter", "loss"):
        tables[name] = merge(found.get(name, {}), tables[name])
    loss = losses.get(_kind(losses, tables["loss"], "loss")).build
    least_squares = bool(getattr(loss, "least_squares", False))
    if least_squares and isinstance(backbone, type) and not traits["user_vector"]:
        if "kind" not in given.get("loss", {}) and "loss" in found:
            raise ConfigError(
                f"preset = {preset!r} needs a score linear in the item vector, as FedMF and "
                f"FedPerGNN have it; {backbone.__name__} has none: choose another preset"
            )
        raise no_user_vector(backbone.__name__)  # now, not once data are read and items pretrained
    training = tables["training"]
    traits["solves"] = least_squares and training.get("local") != "gradient"

    kind = _kind(adapters, tables["adapter"], "adapter")
    own = getattr(adapters.get(kind).config, "presets", {})
    tables["adapter"] = merge(own.get(preset, {}), tables["adapter"])
    adapter = _choice(adapters, tables["adapter"], "adapter").config
    assert isinstance(adapter, AdapterConfig)
    traits |= _traits(adapter)

    found = presets.settings(preset, traits)
    tables["loss"] = merge(found.get("loss", {}), tables["loss"])
    defaults = found.get("training", {})
    if defaults.get("local") == "gradient":
        defaults = merge(defaults, getattr(backbone, "presets", {}).get(preset, {}))
    tables["training"], vain = _training(defaults, training)
    tables["evaluation"].setdefault("every", usual_interval(_rounds(tables["training"])))
    if tables["training"].get("local", "solve") == "solve" and not least_squares:
        raise ConfigError(
            f"training.local = 'solve' needs loss.kind = 'ials', not "
            f"{_kind(losses, tables['loss'], 'loss')!r}; use training.local = 'gradient' with it"
        )
    return tables, vain


def _traits(adapter: AdapterConfig) -> dict[str, bool]:
    """Return the traits of an adapter that a preset's rules may ask for."""
    return {
        "peft": adapter.mode == "peft",
        "keeps_base": adapter.keeps_base,
        "table": adapter.is_table,
        "linear": adapter.linear,
        "refreshes": adapter.refreshes,
        "shares_rows": adapter.shares_rows,
        "random_rows": adapter.random_rows,
    }


def _training(defaults: Tables, given: Tables) -> tuple[Tables, dict[str, str]]:
    """Return the given training settings over those of a preset, and what is given in vain."""
    merged = merge(defaults, given)
    if "encoding" in given and "download_encoding" not in given:
        merged["download_encoding"] = None  # who asks for an encoding means both directions
    if "warmup_rounds" in defaults and "warmup_rounds" not in given:
        merged["warmup_rounds"] = min(defaults["warmup_rounds"], _rounds(merged) // 5)
    fits = merged.get("local", "solve") == "solve" or merged.get("local_steps", 0) != 0
    if fits or merged.get("inference", "fit") != "fit":
        return merged, {}
    merged["inference"] = "stored"  # as it is what happens
    return merged, {"training.inference": NOTHING_TO_FIT} if "inference" in given else {}


def _rounds(training: Mapping[str, Any]) -> int:
    """Return the rounds that other settings follow; what is no such number is refused later."""
    usual: int = TrainingConfig.model_fields["rounds"].default
    rounds = training.get("rounds", usual)
    return rounds if isinstance(rounds, int) and rounds >= 0 else usual


def _choice(registry: Registry[Any], table: Mapping[str, Any], name: str) -> Choice:
    kind = _kind(registry, table, name)
    settings = {key: value for key, value in table.items() if key != "kind"}
    return Choice(kind, parse(registry.get(kind).config, settings, name))


def _kind(registry: Registry[Any], table: Mapping[str, Any], name: str) -> str:
    kind = table.get("kind", DEFAULTS[name])
    if not isinstance(kind, str):
        raise ConfigError(f"{name}.kind = {kind!r}: must be one of {', '.join(registry.names())}")
    return kind


def _remove(tables: Tables, key: tuple[str, ...]) -> bool:
    """Take a key out of tables; return whether it was there, not gone with a table around it."""
    *path, last = key
    table = tables
    for part in path:
        table = table.get(part, {})
    return table.pop(last, None) is not None
