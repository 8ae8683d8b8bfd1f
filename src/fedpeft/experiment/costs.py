"""The strategies of the paper side by side, for a configuration and for a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedpeft.adapters import AdapterConfig, adapters
from fedpeft.backbones import backbones
from fedpeft.config import parse
from fedpeft.cost import AS_SET, Scale, Strategy, as_json, costs
from fedpeft.data import Dataset, load
from fedpeft.errors import ConfigError
from fedpeft.experiment.config import RunConfig
from fedpeft.experiment.resolution import resolve

PAPER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("full", {}),
    ("lora", {}),
    ("hash", {"pooling": "mean"}),
    ("hash", {"pooling": "senet"}),
    ("rq", {}),
)
"""Registered names and what tells two of one name apart."""
ENCODINGS = ("encoding", "download_encoding")
ML_1M = {"items": 3706, "clients": 6040, "touched": 166}
"""MovieLens 1M, whose sizes stand in where no data set is named; 166 is its mean history."""


def strategies(values: Mapping[str, Any], *, lenient: bool = False) -> list[Strategy]:
    """Return the paper's strategies under a configuration, and its own adapter if it is another.

    Parameters
    ----------
    values
        Tables of a config file.  The table ``adapter`` holds for the strategies of its kind (but
        its mode for all); others are set in tables of their own, such as ``lora`` or ``hash``.
        A key that does not act for one of the strategies is dropped there, and so is a strategy
        that the server's optimiser cannot train.
    lenient
        Drop keys that do not act for the configuration's own adapter too.

    Raises
    ------
    ConfigError
        As `fedpeft.experiment.resolve`, and for a setting that would not hold here.
    """
    tables = dict(values)
    own = {name: tables.pop(name) for name in adapters.names() if name in tables}
    for name, table in own.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"{name} = {table!r}: must be a table of settings")
        parse(adapters.get(name).config, table, name)  # a mistake is told by the name it has here
        if "mode" in table:
            raise ConfigError(f"{name}.mode: all strategies have one mode; set adapter.mode")
        if name == "hash" and "pooling" in table:
            raise ConfigError("hash.pooling: both poolings are shown, so there is none to set")
    asked = resolve(tables, lenient=lenient)
    assert isinstance(asked.adapter.config, AdapterConfig)
    given = dict(tables.get("adapter", {}))
    given.pop("kind", None)
    found = []
    for kind, settings in (*PAPER, *_others(asked.adapter.kind, own)):
        mine = given if kind == asked.adapter.kind else {}
        table = {**mine, **own.get(kind, {}), **settings}
        table |= {"kind": kind, "mode": asked.adapter.config.mode}
        found.append(strategy(resolve({**tables, "adapter": table}, lenient=True)))
    return [each for each in found if each.trainable]


def _others(chosen: str, own: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the adapters that were named and are none of the paper's."""
    paper = {kind for kind, _ in PAPER}
    return [(kind, {}) for kind in sorted({chosen, *own} - paper)]


def strategy(config: RunConfig) -> Strategy:
    """Return what a configuration trains."""
    assert isinstance(config.adapter.config, AdapterConfig)
    backbone, training = backbones.get(config.backbone.kind), config.training
    if not _fits(config):
        training = training.model_copy(update={"upload": "dense"})
    return Strategy(
        config.label,
        config.adapter.kind,
        config.adapter.config,
        training,
        lambda item: backbone.build(config.backbone.config, item),
        config.items.base_codes,
    )


def _fits(config: RunConfig) -> bool:
    """Return whether an adapter's change can be laid out as the settings ask."""
    training, adapter = config.training, config.adapter
    assert isinstance(adapter.config, AdapterConfig)
    newton = training.server_optimizer.kind == "newton"
    if training.upload == "dense" or (training.upload == "rank_one" and not newton):
        return True
    indexed = bool(getattr(adapters.get(adapter.kind).build, "item_indexed", ()))
    return indexed and (adapter.config.spans or not newton)


def scale_of(
    values: Mapping[str, Any],
    *,
    items: int | None = None,
    clients: int | None = None,
    touched: int | None = None,
) -> Scale:
    """Return the sizes to reckon with: those given, else the data set's, else MovieLens 1M's.

    Raises
    ------
    DataError
        If the data set that `values` names cannot be read; it is not, where all sizes are given.
    """
    config = resolve(
        {name: table for name, table in values.items() if name not in adapters.names()}
    )
    given = {"items": items, "clients": clients, "touched": touched}
    missing = {name for name, size in given.items() if size is None}
    known = _sizes(load(config.data)) if missing and "data" in values else ML_1M
    sizes = {name: known[name] if size is None else size for name, size in given.items()}
    return Scale(dim=config.items.dim, seed=config.seed, **sizes)


def _sizes(dataset: Dataset) -> dict[str, int]:
    """Return a data set's items and users, and the mean length of a history, rounded."""
    users = dataset.n_users
    mean = round(len(dataset.histories.items) / max(1, users))
    return {"items": dataset.n_items, "clients": users, "touched": max(1, mean)}


def run_costs(config: RunConfig, dataset: Dataset) -> dict[str, Any] | None:
    """Return what a run and its alternatives cost, counted, ready for JSON.

    None if its adapter's costs cannot be told: a run that is done must not fail for that.  The
    alternatives have the run's encodings and schedule; but a run of the full table has neither
    warm-up nor refresh, and its preset no narrow values, so its alternatives have their preset's.
    """
    assert isinstance(config.adapter.config, AdapterConfig)
    values = config.to_dict() | {"preset": config.preset}
    if config.adapter.config.is_table:
        own = ["refresh_every", "server_optimizer"]
        if config.items.base_codes is None:  # which go without a warm-up
            own.append("warmup_rounds")
        usual = resolve({**values, "training": {}}, lenient=True).training
        same = [key for key in ENCODINGS if getattr(usual, key) == getattr(config.training, key)]
        for key in (*own, *same):
            del values["training"][key]
    scale = Scale(dim=config.items.dim, seed=config.seed, **_sizes(dataset))
    try:
        found = costs(strategies(values, lenient=True), scale, measured=False, encodings=(AS_SET,))
    except ConfigError:
        return None
    return {"strategy": config.label, **as_json(found, scale)}
