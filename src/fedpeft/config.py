"""Frozen, checked configuration: the base class of every config table and its error messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from fedpeft.errors import ConfigError
from fedpeft.foreign import parse_toml

M = TypeVar("M", bound="ConfigModel")


@dataclass(frozen=True)
class ActsIf:
    """The condition under which a key acts.

    Attributes
    ----------
    needs
        What it needs, in words that can follow "it needs".
    holds
        Whether the values of the table that declares the condition are such.
    """

    needs: str
    holds: Callable[[Any], bool]


class ConfigModel(BaseModel):
    """A frozen table of settings that rejects unknown keys and documents its attributes."""

    acting: ClassVar[Mapping[str, ActsIf]] = {}
    """Conditions by key, dotted for a key of an inner table.  Keys without one always act."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


def parse(model: type[M], values: Mapping[str, Any], where: str = "") -> M:
    """Validate `values` as `model`.

    Parameters
    ----------
    where
        Dotted name of the table, put before each key in messages.

    Raises
    ------
    ConfigError
        One sentence: the key, the value, what is allowed.
    """
    try:
        # strict, so that true and "6" are no numbers; as JSON, for which a list may be a tuple
        text = json.dumps(_over_defaults(model, values), default=str)
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(describe(error, model, where)) from None


def _over_defaults(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with inner tables over the defaults that `model` has for them."""
    laid = dict(values)
    for name, field in model.model_fields.items():
        usual, given = field.default, values.get(name)
        if isinstance(usual, ConfigModel) and isinstance(given, Mapping):
            known = usual.model_dump(mode="json", exclude_defaults=True)
            laid[name] = merge(known, _over_defaults(type(usual), given))
    return laid


def describe(error: ValidationError, model: type[BaseModel], where: str = "") -> str:
    """Turn the first problem of a pydantic error into one sentence."""
    first = error.errors()[0]
    key = ".".join([where, *map(str, first["loc"])]).strip(".")
    if first["type"] == "extra_forbidden":
        known = sorted(_table(model, first["loc"][:-1]).model_fields)
        return f"unknown key {key!r}; known keys here are {', '.join(known)}"
    if first["type"] == "value_error":  # raised by a validator of ours, already a sentence
        sentence = str(first["ctx"]["error"])
        return f"{key}: {sentence}" if key else sentence
    if first["type"] == "missing":
        return f"{key} is missing, and it has no default"
    if first["type"] in ("model_type", "dict_type"):
        return f"{key} = {first['input']!r}: must be a table of settings"
    said = first["msg"][0].lower() + first["msg"][1:]
    return f"{key} = {first['input']!r}: {said}"


def _table(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    """Follow `path` through nested models as far as it goes."""
    for key in path:
        field = model.model_fields.get(str(key))
        if field is None:
            break
        for kind in (field.annotation, *get_args(field.annotation)):  # a table, or one or none
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises `ConfigError` when it is missing or malformed."""
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config file {path} does not exist") from None
    except IsADirectoryError:
        raise ConfigError(f"config file {path} is a folder, not a TOML file") from None
    except ValueError as error:  # not UTF-8, or not TOML
        raise ConfigError(f"config file {path} is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}") from None


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split ``table.key=value`` into its path and its value.

    The value is read as TOML; what is not TOML is taken as a string, so quotes may be left out.
    """
    key, sign, value = text.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not sign or not all(path):
        raise ConfigError(f"override {text!r} must look like table.key=value")
    try:
        return path, parse_toml(f"value = {value}")["value"]
    except ValueError:
        return path, value.strip()


def override(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a nested key in place; raises `ConfigError` when the path runs through a value."""
    table = values
    for depth, key in enumerate(path[:-1]):
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            name = ".".join(path[: depth + 1])
            raise ConfigError(f"{name} is a value, so {'.'.join(path)} cannot be set inside it")
    table[path[-1]] = value


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` with the values of `above` set over it, table by table."""
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged
