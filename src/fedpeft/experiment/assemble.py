"""From a configuration to a simulation: load the data, pretrain the items, build the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fedpeft.adapters import AdapterConfig
from fedpeft.backbones import backbones
from fedpeft.data import Dataset, Split, load, split
from fedpeft.experiment.config import RunConfig
from fedpeft.items import Items, default_cache, pretrain, semantic_ids
from fedpeft.losses import losses
from fedpeft.simulation import RunOptions, Simulation
from fedpeft.training.task import Task

Stage = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Prepared:
    """The data of a run, ready to train on."""

    dataset: Dataset
    split: Split
    items: Items


def prepare(
    config: RunConfig, *, cache: Path | str | None = None, stage: Stage = lambda _: None
) -> Prepared:
    """Load the data set, split it, pretrain its items (cached).

    Parameters
    ----------
    stage
        Told what begins, in a few words.
    """
    stage(f"reading {config.data.source}")
    dataset = config.dataset or load(config.data)
    parts = split(dataset, config.evaluation)
    stage(f"pretraining {dataset.n_items:,} items")
    items = pretrain(dataset.catalogue, config.items, cache=cache or default_cache())
    return Prepared(dataset, parts, items)


def build(
    config: RunConfig,
    data: Split,
    items: Items,
    options: RunOptions | None = None,
    *,
    cache: Path | str | None = None,
) -> Simulation:
    """Build the simulation of a configuration.

    Parameters
    ----------
    options
        Where and how it executes; by default as `RunOptions` says.

    Raises
    ------
    ConfigError
        If loss, backbone and training settings do not go together.
    """
    config = config.resolved(data)

    def codes_of_text(levels: int, codes: int) -> Tensor:
        found = semantic_ids(items, config.items, levels, codes, cache=cache or default_cache())
        if items.model is not None:
            items.model.coder = found.coder  # so that the run folder keeps it
        return found.codes

    return Simulation(
        task_of(config, data.n_items, items.base.shape[1]),
        data,
        items.base,
        options or RunOptions(),
        semantic_ids=codes_of_text,
        texts=items.inputs,
        coded=items.coded,
    )


def task_of(config: RunConfig, n_items: int, dim: int) -> Task:
    """Return what server and clients of a run agree on; the configuration is resolved."""
    assert isinstance(config.adapter.config, AdapterConfig)
    backbone, loss = backbones.get(config.backbone.kind), losses.get(config.loss.kind)
    return Task(
        lambda item: backbone.build(config.backbone.config, item),
        loss.build(config.loss.config),
        config.adapter.kind,
        config.adapter.config,
        config.training,
        n_items,
        dim,
        config.seed,
    )
