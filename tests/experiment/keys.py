"""The keys of the configuration, and for each a value other than the one it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fedpeft.experiment import RunConfig
from fedpeft.experiment.config import TABLES, Choice
from fedpeft.items import encoders
from fedpeft.transforms import transforms

Key = tuple[str, ...]

VALUES: Mapping[str, Any] = {
    "data.source": "nowhere",
    "training.server_optimizer.population": 7,
    "training.frequency_decay": 0.01,
    "training.warmup_optimizer.population": 7,
    "data.reader": "movielens_1m",
    "data.interactions": "interactions.tsv",
    "data.items_file": "items.tsv",
    "data.min_interactions": 6,
    "data.min_rating": 3.5,
    "data.columns.user": "session",
    "data.columns.item": "other",
    "data.columns.timestamp": "rating",
    "data.columns.time_format": "%d.%m.%Y",
    "data.columns.position": "timestamp",
    "data.columns.rating": "timestamp",
    "data.columns.event": "session",
    "data.events": {"view": 0.25},
    "data.columns.title": "text",
    "data.columns.text": ["title"],
    "data.synthetic.topics": 7,
    "data.synthetic.drift": 1.0,
    "data.synthetic.session": 2.0,
    "evaluation.every": 3,
    "evaluation.max_eval_users": 7,
    "items.base": "autoencoder",
    "items.hidden": [6],
    "items.options.path": "other.npy",
    "items.options.ids": "reversed.txt",
    "items.options.text_dim": 5,
    "items.options.max_features": 5,
    "items.options.sample": 12,
    "items.autoencoder.max_steps": 1,
    "items.rqvae.max_steps": 1,
    "backbone.hidden": [5],
    "backbone.expansion.clip": 0.01,
    "backbone.expansion.neighbours": 1,
    "training.item_decay": 0.01,
    "training.recency.half_life": 2.0,
    "training.relative_item_decay": 0.25,
    "training.server_optimizer.eps": 0.1,
    "training.warmup_optimizer.eps": 0.1,
    "training.local_optimizer.eps": 0.1,
    "training.payload_optimizer.eps": 0.1,
    "training.upload": "rows",
    "training.download_encoding": "int4",
    "training.transforms.clip.norm": 1e-3,
}
"""What is set, where the type alone does not tell a value that works."""


def keys(run: RunConfig) -> Iterator[tuple[Key, Any]]:
    """Yield every key of a configuration's models with another value for it."""
    for name in TABLES:
        part = getattr(run, name)
        table = part.config if isinstance(part, Choice) else part
        yield from _of(table, (name,))


def _of(table: BaseModel, place: Key) -> Iterator[tuple[Key, Any]]:
    for name, field in type(table).model_fields.items():
        key, value = (*place, name), getattr(table, name)
        if isinstance(value, BaseModel):
            yield from _of(value, key)
        elif key == ("items", "options"):
            config = encoders.get(table.encoder).config  # type: ignore[attr-defined]
            yield from _of(config.model_validate(value), key)
        elif key == ("training", "transforms"):
            for kind, settings in value.items():
                yield from _of(transforms.get(kind).config.model_validate(settings), (*key, kind))
        elif key != ("items", "encoder"):
            inner = next((c for c in get_args(field.annotation) if _is_model(c)), None)
            if inner is not None:  # a table or none, here none
                yield from _of(inner(), key)
            else:
                yield key, another(".".join(key), field, value)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def another(key: str, field: FieldInfo, value: Any) -> Any:
    """Return a value that a key does not have."""
    if key in VALUES and VALUES[key] != value:
        return VALUES[key]
    choices = [c for c in _choices(field.annotation) if c != value]
    if choices:
        return choices[0]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1 if value < 4 else value - 1
    if isinstance(value, float):
        return value * 0.75 if value else 0.25
    if value is None and float in get_args(field.annotation):
        return 0.25
    raise AssertionError(f"{key} = {value!r}: name another value in VALUES")


def _choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [each for part in get_args(annotation) for each in _choices(part)]
