"""Write docs/configuration.md from the settings themselves: names, types, defaults, docstrings.

Run it as ``python docs/generate_configuration.py`` whenever a setting has changed.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from configuration_texts import DERIVED, INTRODUCTION, OF_PARTS, PRESETS, RULES
from fedpeft.adapters import AdapterConfig, adapters
from fedpeft.backbones import BackboneConfig, backbones
from fedpeft.config import ConfigModel
from fedpeft.data import DataConfig
from fedpeft.experiment import EvaluationConfig, acting, presets, resolve
from fedpeft.experiment.resolution import DEFAULTS
from fedpeft.items import ItemsConfig, encoders
from fedpeft.losses import LossConfig, losses
from fedpeft.records.toml import to_toml
from fedpeft.registry import Registry
from fedpeft.training import TrainingConfig
from fedpeft.transforms import transforms
from options import parser

PAGE = "configuration.md"

EMPTY = {"events": "none", "options": "the encoder's", "transforms": "none"}
"""What an empty table stands for, by its key."""

ACROSS = acting.across(resolve({}))
"""What keys need of other tables."""

Rows = list[tuple[str, str, str, str]]

TOP_LEVEL: Rows = [
    (
        "seed",
        "whole number, at least 0",
        "`0`",
        "Seed of training: cohorts, negatives, first values. Data, evaluation and items have seeds "
        "of their own, so runs with different seeds share one split and one base.",
    ),
    (
        "preset",
        "one of " + ", ".join(f'`"{name}"`' for name in presets.names()),
        '`"fedpeft"`',
        "The set of settings that the run starts from; see [presets](#presets).",
    ),
    (
        "from_preset",
        "text",
        "none",
        'A note in the files of a run folder, which have `preset = "none"`: the preset that their '
        "settings came from.",
    ),
]


def render() -> str:
    """Return the page."""
    return "\n".join(
        [
            INTRODUCTION,
            _markdown(TOP_LEVEL),
            *_sections(),
            DERIVED,
            PRESETS,
            _traits(),
            *_presets(),
            OF_PARTS,
            _of_parts(),
        ]
    )


def _sections() -> Iterator[str]:
    yield from _table("data", DataConfig, "What is read and how it is cleaned.")
    yield from _table("evaluation", EvaluationConfig, "How a run is split and evaluated.")
    yield from _table("items", ItemsConfig, "How item texts become a base embedding and codes.")
    yield "`items.options` belongs to the encoder.\n"
    for name, config in _own(encoders):
        yield _section(f'### `[items.options]`, encoder = "{name}"', config)
    yield from _parts("adapter", adapters, AdapterConfig)
    yield from _parts("backbone", backbones, BackboneConfig)
    yield from _parts("loss", losses, LossConfig)
    yield from _table("training", TrainingConfig, "How the rounds go.")
    for name, config in _own(transforms):
        yield _section(f"### `[training.transforms.{name}]`", config)


def _table(name: str, model: type[ConfigModel], about: str) -> Iterator[str]:
    """Yield the section of a table, then those of the tables inside it."""
    yield _section(f"## `[{name}]`", model, about, place=name)
    for key, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, ConfigModel):
            overrides = field.get_default().model_dump()
            said = (field.description or "") + _needs(model, key, name)
            yield _section(f"### `[{name}.{key}]`", inner, said, overrides, f"{name}.{key}")


def _parts(name: str, registry: Registry[Any], common: type[ConfigModel]) -> Iterator[str]:
    """Yield the sections of a table whose keys depend on its `kind`."""
    kinds = ", ".join(f'`"{kind}"`' for kind, _ in _own(registry))
    default = f'`"{DEFAULTS[name]}"`'
    if name in ("adapter", "loss"):
        default += ", unless the [preset](#presets) chooses"
    rows = [("kind", f"one of {kinds}", default, f"Which {name}; the other keys depend on it.")]
    rows += _rows(common)
    yield f"## `[{name}]`\n\n{_sentence(common.__doc__)}\n\n{_markdown(rows)}"
    shared = set(common.model_fields)
    for kind, config in _own(registry):
        rows = [row for row in _rows(config) if row[0] not in shared]
        keys = _markdown(rows) if rows else "No further keys.\n"
        yield f'### `[{name}]`, kind = "{kind}"\n\n{_sentence(config.__doc__)}\n\n{keys}'


def _own(registry: Registry[Any]) -> list[tuple[str, type[ConfigModel]]]:
    """Return the parts that ship with fedpeft; installed packages may have added others."""
    parts = [(name, registry.get(name).config) for name in registry.names()]
    return [(name, config) for name, config in parts if config.__module__.startswith("fedpeft.")]


def _section(
    heading: str,
    model: type[ConfigModel],
    about: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    place: str = "",
) -> str:
    """Return one table's section; `overrides` are defaults that differ from the model's own."""
    text = _sentence(about or model.__doc__)
    return f"{heading}\n\n{text}\n\n{_markdown(_rows(model, overrides, place))}"


def _rows(
    model: type[ConfigModel], overrides: Mapping[str, Any] | None = None, place: str = ""
) -> Rows:
    """Return key, type, default and meaning of every key that is not a table itself."""
    rows: Rows = []
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, ConfigModel):
            continue
        default = field.get_default(call_default_factory=True)
        if overrides is not None:
            default = overrides[key]
        shown = (
            "required" if field.is_required() else EMPTY[key] if default == {} else _value(default)
        )
        meaning = _sentence(field.description) + _needs(model, key, place)
        rows.append((key, _type(field), shown, meaning))
    return rows


def _needs(model: type[ConfigModel], key: str, place: str) -> str:
    """Return what a key needs to act, as a sentence to go on with."""
    condition = ACROSS.get(f"{place}.{key}", model.acting.get(key))
    return "" if condition is None else f" *Needs {condition.needs}.*"


def _markdown(rows: Rows) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, kind, default, meaning in rows:
        cells = (f"`{key}`", kind, default, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _sentence(text: str | None) -> str:
    """Join a docstring's lines and write it as Markdown about TOML, which has no None."""
    joined = " ".join((text or "").split()).replace("``", "`")
    return re.sub(r"\bNone\b", "none", joined)


def _value(value: Any) -> str:
    """Return a default as it would stand in a file."""
    if value is None:
        return "none"
    return f"`{to_toml({'x': value}).partition(' = ')[2].strip()}`"


def _type(field: FieldInfo) -> str:
    """Return a field's type and range in words."""
    bounds = [
        word
        for constraint in field.metadata
        for word in (
            f"at least {constraint.ge}" if isinstance(constraint, annotated_types.Ge) else "",
            f"more than {constraint.gt}" if isinstance(constraint, annotated_types.Gt) else "",
            f"at most {constraint.le}" if isinstance(constraint, annotated_types.Le) else "",
            f"less than {constraint.lt}" if isinstance(constraint, annotated_types.Lt) else "",
        )
        if word
    ]
    return ", ".join([_type_name(field.annotation), *bounds])


def _type_name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return " or ".join(f'`"{choice}"`' for choice in get_args(annotation))
    if origin in (Union, types.UnionType):
        given = [arg for arg in get_args(annotation) if arg is not type(None)]
        return " or ".join(map(_type_name, given))
    if origin is tuple:
        return f"list of {_type_name(get_args(annotation)[0])}s"
    if hasattr(annotation, "__metadata__"):
        return _type_name(get_args(annotation)[0])
    names = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}
    return names.get(annotation, "table")


def _traits() -> str:
    """Return the traits that presets go by, as a table."""
    lines = ["| trait | it holds where |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in presets.TRAITS.items()]
    return "\n".join(lines) + "\n"


def _presets() -> Iterator[str]:
    """Yield a table of the rules of each preset that has some."""
    for name in presets.names():
        lines = ["| where | settings |", "|---|---|"]
        for rule in presets.rules(name):
            traits = rule.get("when", {}).items()
            where = ", ".join(f"{'' if holds else 'not '}`{trait}`" for trait, holds in traits)
            tables = {key: table for key, table in rule.items() if key != "when"}
            lines.append(f"| {where or 'always'} | {_settings(tables)} |")
        if presets.rules(name):
            yield RULES.format(name=name)
            yield "\n".join(lines) + "\n"


def _of_parts() -> str:
    """Return what parts set otherwise under a preset, as a table."""
    found = [
        (f"{table} `{kind}`", preset, {into: settings})
        for table, into, registry in (
            ("adapter", "adapter", adapters),
            ("backbone", "training", backbones),
        )
        for kind, config in _own(registry)
        for preset, settings in _presets_of(registry, kind, config).items()
    ]
    lines = ["| part | preset | settings |", "|---|---|---|"]
    lines += [f"| {part} | `{preset}` | {_settings(tables)} |" for part, preset, tables in found]
    return "\n".join(lines) + "\n"


def _presets_of(
    registry: Registry[Any], kind: str, config: type[ConfigModel]
) -> Mapping[str, Mapping[str, Any]]:
    """Return what a part declares: an adapter's settings do, a backbone itself does."""
    declared: Any = config if issubclass(config, AdapterConfig) else registry.get(kind).build
    found: Mapping[str, Mapping[str, Any]] = getattr(declared, "presets", {})
    return found


def _settings(tables: Mapping[str, Any]) -> str:
    """Return settings in one cell of a table."""
    return ", ".join(f"`{key} = {_value(value)[1:-1]}`" for key, value in _leaves(tables))


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


if __name__ == "__main__":
    page = parser(__doc__).parse_args().out / PAGE
    page.write_text(render(), encoding="utf-8")
    print(page)
