"""Which settings of a run do not act, by the conditions that its tables declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from fedpeft.adapters import AdapterConfig
from fedpeft.backbones import BackboneConfig
from fedpeft.config import ActsIf, ConfigModel
from fedpeft.experiment.config import TABLES, Choice, RunConfig

Path = tuple[str, ...]


@dataclass(frozen=True)
class Idle:
    """A key that has another value than its default, but does not act.

    Attributes
    ----------
    key
        From the top of the configuration; a whole table where all of it does not act.
    needs
        What it needs to act.
    """

    key: Path
    needs: str

    def set_in(self, tables: Mapping[str, Any]) -> tuple[Path, Any] | None:
        """Return the first key of tables that falls under it, and its value."""
        value: Any = tables
        for part in self.key:
            if not isinstance(value, Mapping) or part not in value:
                return None
            value = value[part]
        key = self.key
        while isinstance(value, Mapping) and value:
            name = next(iter(value))
            key, value = (*key, name), value[name]
        return None if value is None else (key, value)


def idle(run: RunConfig) -> list[Idle]:
    """Return the keys that are set to other than their default and do not act."""
    found: list[Idle] = []
    for name in TABLES:
        part = getattr(run, name)
        table = part.config if isinstance(part, Choice) else part
        found += _idle(table, _usual(type(table)), (name,))
    for key, condition in across(run).items():
        path = tuple(key.split("."))
        part = getattr(run, path[0])
        table = part.config if isinstance(part, Choice) else part
        if not condition.holds(run) and _differs(table, _usual(type(table)), path[1:]):
            found.append(Idle(path, condition.needs))
    return found


def across(run: RunConfig) -> dict[str, ActsIf]:
    """Return the conditions on keys of one table that depend on another table."""
    backbone = run.backbone.config
    starts = backbone.starts if isinstance(backbone, BackboneConfig) else frozenset()
    base = "an adapter with a base to merge into (mode 'peft', not the full table)"
    return {
        "training.recency": ActsIf(
            "data in an order (data.order other than 'none')",
            lambda run: run.data.order != "none",
        ),
        "training.warmup_rounds": ActsIf(base, lambda run: _adapter(run).keeps_base),
        "training.refresh_every": ActsIf(
            f"{base} and with a subspace to renew (no codes from text)",
            lambda run: _adapter(run).keeps_base and _adapter(run).refreshes,
        ),
        "training.server_optimizer.prior": ActsIf(
            "item texts (items.base 'autoencoder' or 'svd')",
            lambda run: run.items.base not in ("none", "random"),
        ),
        "items.rqvae": ActsIf(
            "an adapter with codes from text", lambda run: _adapter(run).reads_text
        ),
        "items.hidden": ActsIf("an autoencoder or an RQ-VAE", _trains_network),
        "items.seed": ActsIf(
            "an autoencoder, an RQ-VAE, base_codes or a random base",
            lambda run: (
                _trains_network(run)
                or run.items.base_codes is not None
                or run.items.base == "random"
            ),
        ),
        **dict.fromkeys(
            (f"backbone.{key}" for key in starts),
            ActsIf("local parameters that are not solved for at each use", _stores_local),
        ),
        "training.joint": ActsIf(
            "payload_steps above 1, or local parameters that are not solved for at each use",
            lambda run: run.training.payload_steps > 1 or _stores_local(run),
        ),
    }


def _adapter(run: RunConfig) -> AdapterConfig:
    assert isinstance(run.adapter.config, AdapterConfig)
    return run.adapter.config


def _trains_network(run: RunConfig) -> bool:
    return run.items.base == "autoencoder" or _adapter(run).reads_text


def _stores_local(run: RunConfig) -> bool:
    backbone = run.backbone.config
    sends = isinstance(backbone, BackboneConfig) and backbone.sends_local
    return sends or run.training.local == "gradient" or run.training.inference == "stored"


def _usual(model: type[ConfigModel]) -> ConfigModel | None:
    """Return a table without settings; None where one of them is required."""
    try:
        return model()
    except ValidationError:
        return None


def _idle(table: ConfigModel, usual: BaseModel | None, place: Path) -> Iterator[Idle]:
    """Yield what a table and those inside it declare."""
    off = set()
    for key, condition in table.acting.items():
        path = tuple(key.split("."))
        if not condition.holds(table):
            off.add(path)
            if _differs(table, usual, path):
                yield Idle((*place, *path), condition.needs)
    for name in type(table).model_fields:
        inner = getattr(table, name)
        if isinstance(inner, ConfigModel) and (name,) not in off:
            default = getattr(usual, name, None)
            yield from _idle(inner, default or _usual(type(inner)), (*place, name))


def _differs(table: Any, usual: Any, path: Path) -> bool:
    """Return whether two tables differ at a path."""
    for part in path:
        table, usual = getattr(table, part, None), getattr(usual, part, None)
    return bool(table != usual)
