"""The whole configuration of a run: one table per part, resolved from recipe and file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import Field

from fedpeft.adapters import AdapterConfig, adapters
from fedpeft.adapters.rq import RQConfig
from fedpeft.backbones import backbones
from fedpeft.config import ConfigModel, merge, parse
from fedpeft.data import DataConfig, SplitConfig
from fedpeft.errors import ConfigError
from fedpeft.experiment.recipes import Recipe, adapter_defaults, recipe_defaults
from fedpeft.items import ItemsConfig
from fedpeft.losses import losses
from fedpeft.registry import Registry
from fedpeft.training import TrainingConfig
from fedpeft.training.task import no_user_vector


class EvaluationConfig(SplitConfig):
    """How a run is evaluated."""

    every: int = Field(50, ge=1)
    """Rounds between evaluations on validation."""
    test: bool = True
    """Whether the test part is read, once, at the end; false for runs among which one is chosen."""
    centralised_floor: bool = True
    """Whether to fit the centralised matrix factorisation as a floor; popularity always is one."""


@dataclass(frozen=True)
class Choice:
    """A registered part and its settings."""

    kind: str
    config: ConfigModel

    def to_dict(self, *, sparse: bool = False) -> dict[str, Any]:
        """Return the table as it stands in a config file; `sparse` as in `RunConfig.to_dict`."""
        return {"kind": self.kind, **self.config.model_dump(mode="json", exclude_defaults=sparse)}


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines what a run computes."""

    seed: int
    recipe: Recipe
    data: DataConfig
    evaluation: EvaluationConfig
    items: ItemsConfig
    adapter: Choice
    backbone: Choice
    loss: Choice
    training: TrainingConfig

    def to_dict(self, *, sparse: bool = False) -> dict[str, Any]:
        """Return all tables, every key resolved; `resolve` of the result gives `self`.

        With `sparse`, keys are left out that have the value they have whatever the recipe.
        """

        def table(config: ConfigModel) -> dict[str, Any]:
            return config.model_dump(mode="json", exclude_defaults=sparse)

        return {
            "seed": self.seed,
            "recipe": self.recipe,
            "data": table(self.data),
            "evaluation": table(self.evaluation),
            "items": table(self.items),
            "adapter": self.adapter.to_dict(sparse=sparse),
            "backbone": self.backbone.to_dict(sparse=sparse),
            "loss": self.loss.to_dict(sparse=sparse),
            "training": table(self.training),
        }

    @property
    def label(self) -> str:
        """Return what tables and plots call the run, such as ``P-LoRA r=4``."""
        config = self.adapter.config
        assert isinstance(config, AdapterConfig)
        mode = "P" if config.mode == "peft" else "C"
        name = config.label()
        if self.adapter.kind == "full" and mode == "P":
            return name
        return f"{mode}-{name}"


TABLES = ("data", "evaluation", "items", "adapter", "backbone", "loss", "training")


def resolve(values: Mapping[str, Any]) -> RunConfig:
    """Turn a config file's tables into a complete, checked configuration.

    Settings come from, in rising order: the parts' own defaults, the recipe's, `values`.

    Raises
    ------
    ConfigError
        If a key is unknown, a value is out of range, or settings contradict each other.
    """
    unknown = sorted(set(values) - {"seed", "recipe", *TABLES})
    if unknown:
        raise ConfigError(
            f"unknown key {unknown[0]!r}; known keys here are {', '.join(sorted(TABLES))}, "
            "recipe, seed"
        )
    for name in TABLES:
        if not isinstance(values.get(name, {}), Mapping):
            raise ConfigError(f"{name} = {values[name]!r}: must be a table of settings")
    recipe = values.get("recipe", "fedpeft")
    if recipe not in get_args(Recipe):
        raise ConfigError(f"recipe = {recipe!r}: must be one of {', '.join(get_args(Recipe))}")
    seed = values.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"seed = {seed!r}: must be a whole number, 0 or more")
    backbone = _choice(backbones, values.get("backbone", {}), "backbone", "fedmf")
    module = backbones.get(backbone.kind).build
    linear = getattr(module, "user_vector", None) is not None
    ours = "ials" if linear else "softmax"
    best_loss = ours if recipe == "fedpeft" else "bpr"
    loss = _choice(losses, values.get("loss", {}), "loss", best_loss)
    if _least_squares(loss) and isinstance(module, type) and not linear:
        raise no_user_vector(module.__name__)  # now, not once data are read and items pretrained
    table = values.get("adapter", {})
    kind = _kind(adapters, table, "adapter", "lora")
    adapter = _choice(adapters, {**adapter_defaults(recipe, kind), **table}, "adapter", "lora")
    config = RunConfig(
        seed=seed,
        recipe=recipe,
        data=parse(DataConfig, values.get("data", {}), "data"),
        evaluation=parse(EvaluationConfig, values.get("evaluation", {}), "evaluation"),
        items=parse(ItemsConfig, values.get("items", {}), "items"),
        adapter=adapter,
        backbone=backbone,
        loss=loss,
        training=_training(recipe, backbone, loss, adapter, values.get("training", {})),
    )
    _check_start(config)
    return config


def _least_squares(loss: Choice) -> bool:
    return bool(getattr(losses.get(loss.kind).build, "least_squares", False))


def _check_start(config: RunConfig) -> None:
    """Raise `ConfigError` for settings under which nothing, or no client, would ever learn."""
    assert isinstance(config.adapter.config, AdapterConfig)
    training, peft = config.training, config.adapter.config.mode == "peft"
    if training.local == "solve" and config.items.base == "none" and peft:
        # zero item vectors give zero user vectors, and those give zero gradients
        raise ConfigError(
            "items.base = 'none' starts every item vector at zero, where training.local = "
            "'solve' never leaves; use another base, or adapter.mode = 'compress', which starts "
            "at random"
        )
    adapter = config.adapter.config
    if isinstance(adapter, RQConfig) and adapter.source == "text" and config.items.base == "none":
        raise ConfigError(
            "adapter.source = 'text' makes codes from the items' encoded texts, of which "
            "items.base = 'none' has none; use another base, or adapter.source = 'table'"
        )
    if config.items.base_codes is not None and config.items.base == "none":
        raise ConfigError(
            "items.base_codes need a base to stand for, which items.base = 'none' is not; use "
            "another base, or leave them out"
        )
    if config.items.base_codes is not None and not peft:
        raise ConfigError(
            "items.base_codes stand for the base, and adapter.mode = 'compress' has none; use "
            "adapter.mode = 'peft', or leave them out"
        )
    if config.items.base_codes is not None and training.warmup_rounds:
        raise ConfigError(
            "items.base_codes make the download of the base smaller, but with "
            f"training.warmup_rounds = {training.warmup_rounds} clients download the table that "
            "the warm-up ends with; set it to 0"
        )
    if training.local == "gradient" and not (training.local_steps or training.joint):
        raise ConfigError(
            "training.local = 'gradient' with local_steps = 0 never trains clients' local "
            "parameters; set local_steps to 1 or more, or joint = true"
        )


def _choice(registry: Registry[Any], table: Mapping[str, Any], name: str, default: str) -> Choice:
    kind = _kind(registry, table, name, default)
    settings = {key: value for key, value in table.items() if key != "kind"}
    return Choice(kind, parse(registry.get(kind).config, settings, name))


def _kind(registry: Registry[Any], table: Mapping[str, Any], name: str, default: str) -> str:
    kind = table.get("kind", default)
    if not isinstance(kind, str):
        raise ConfigError(f"{name}.kind = {kind!r}: must be one of {', '.join(registry.names())}")
    return kind


def _training(
    recipe: Recipe, backbone: Choice, loss: Choice, adapter: Choice, settings: Mapping[str, Any]
) -> TrainingConfig:
    """Return the training settings: the recipe's, the backbone's own, `settings`, less what cannot.

    The full table needs no warm-up (it would be its own) and has nothing to refresh; pure
    compression has no base that either could end in, nor one that rare items had better stay near.
    """
    assert isinstance(adapter.config, AdapterConfig)
    least_squares = _least_squares(loss)
    asked = settings.get("local")
    if asked == "solve" and not least_squares:
        raise ConfigError(
            f"training.local = 'solve' needs loss.kind = 'ials', not {loss.kind!r}; use "
            "training.local = 'gradient' with it"
        )
    solves = least_squares and asked != "gradient"
    defaults = recipe_defaults(
        recipe, adapter.kind, linear=adapter.config.linear, least_squares=solves
    )
    if defaults.get("local") == "gradient":
        recipes = getattr(backbones.get(backbone.kind).build, "recipes", {})
        defaults = merge(defaults, recipes.get(recipe, {}))
    merged = merge(defaults, settings)
    if "encoding" in settings and "download_encoding" not in settings:
        merged["download_encoding"] = None  # who asks for an encoding means both directions
    rounds, warmup = (
        merged.get(key, TrainingConfig.model_fields[key].default)
        for key in ("rounds", "warmup_rounds")
    )
    if "warmup_rounds" not in settings and isinstance(rounds, int):
        merged["warmup_rounds"] = min(warmup, rounds // 5)
    if adapter.config.mode == "compress":
        merged |= {"sparse_eps": settings.get("sparse_eps", 0.0), "warmup_optimizer": None}
    if not adapter.config.refreshes:
        if settings.get("refresh_every", 0) != 0:
            raise ConfigError(
                f"training.refresh_every = {settings['refresh_every']} has nothing to refresh with "
                "codes from text, which stay as they are; set it to 0, or adapter.source = 'table'"
            )
        merged["refresh_every"] = 0
    for key in ("warmup_rounds", "refresh_every"):
        if adapter.kind == "full":
            merged[key] = 0
        elif adapter.config.mode == "compress":
            if settings.get(key, 0) != 0:
                raise ConfigError(
                    f"training.{key} = {settings[key]} needs a base, which adapter.mode = "
                    "'compress' does not have; set it to 0 or use mode 'peft'"
                )
            merged[key] = 0
    return parse(TrainingConfig, merged, "training")
