"""Adapters: the few trainable tensors that represent or correct item vectors."""

from fedpeft.adapters.artifact import build, load, restore, save
from fedpeft.adapters.base import (
    AdapterConfig,
    ItemContext,
    ItemEmbedding,
    Mode,
    adapters,
    check_tensors,
)

__all__ = [
    "AdapterConfig",
    "ItemContext",
    "ItemEmbedding",
    "Mode",
    "adapters",
    "build",
    "check_tensors",
    "load",
    "restore",
    "save",
]
