"""Plug-and-play parameter-efficient item embeddings for federated recommendation.

The same as the command line in about ten lines::

    import fedpeft

    config = fedpeft.configure(data="synthetic", adapter="lora", rounds=100)
    data = fedpeft.prepare(config)
    simulation = fedpeft.build(config, data.split, data.items)
    for _ in range(config.training.rounds):
        simulation.step()
    scorer = simulation.scorer(data.split.before("test"))
    report = fedpeft.evaluate(scorer, data.split, "test")
    print(report.sampled["ndcg@10"], simulation.traffic.bytes_per_client)

An embedding-based model that was written without it gets a small payload in one line::

    fedpeft.replace_embedding(model, "items", kind="lora", rank=4)

Names are loaded when they are first used, so that importing the package is quick.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedpeft.adapters import (
        ItemContext,
        ItemEmbedding,
        from_pretrained,
        load_payload_state_dict,
        merge_and_unload,
        payload_state_dict,
        print_trainable_parameters,
        replace_embedding,
        save_pretrained,
    )
    from fedpeft.backbones import Backbone
    from fedpeft.data import Dataset, Split, from_tables, load, split
    from fedpeft.evaluation import baselines, evaluate
    from fedpeft.experiment import RunConfig, build, configure, prepare, resolve
    from fedpeft.items import Items, pretrain
    from fedpeft.losses import Loss
    from fedpeft.simulation import RunOptions, Simulation

__version__ = "0.1.0"

_HOMES = {
    "fedpeft.adapters": (
        "ItemContext",
        "ItemEmbedding",
        "from_pretrained",
        "load_payload_state_dict",
        "merge_and_unload",
        "payload_state_dict",
        "print_trainable_parameters",
        "replace_embedding",
        "save_pretrained",
    ),
    "fedpeft.backbones": ("Backbone",),
    "fedpeft.data": ("Dataset", "Split", "from_tables", "load", "split"),
    "fedpeft.evaluation": ("baselines", "evaluate"),
    "fedpeft.experiment": ("RunConfig", "build", "configure", "prepare", "resolve"),
    "fedpeft.simulation": ("RunOptions", "Simulation"),
    "fedpeft.items": ("Items", "pretrain"),
    "fedpeft.losses": ("Loss",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Backbone",
    "Dataset",
    "ItemContext",
    "ItemEmbedding",
    "Items",
    "Loss",
    "RunConfig",
    "RunOptions",
    "Simulation",
    "Split",
    "__version__",
    "baselines",
    "build",
    "configure",
    "evaluate",
    "from_pretrained",
    "from_tables",
    "load",
    "load_payload_state_dict",
    "merge_and_unload",
    "payload_state_dict",
    "prepare",
    "pretrain",
    "print_trainable_parameters",
    "replace_embedding",
    "resolve",
    "save_pretrained",
    "split",
]


_EARLIER = {"floors": "baselines"}
"""Names of the version before."""


def __getattr__(name: str) -> Any:
    if name in _EARLIER:
        warnings.warn(
            f"fedpeft.{name} is called fedpeft.{_EARLIER[name]} now; the old name will go",
            FutureWarning,
            stacklevel=2,
        )
        name = _EARLIER[name]
    if name not in _HOME_OF:
        raise AttributeError(f"module 'fedpeft' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
