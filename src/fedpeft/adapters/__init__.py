"""Adapters: the few trainable tensors that represent or correct item vectors."""

from fedpeft.adapters.artifact import build, load, restore, save
from fedpeft.adapters.base import ItemContext, ItemEmbedding, adapters, check_tensors
from fedpeft.adapters.config import AdapterConfig, Mode
from fedpeft.adapters.plug import (
    from_pretrained,
    merge_and_unload,
    replace_embedding,
    save_pretrained,
)

__all__ = [
    "AdapterConfig",
    "ItemContext",
    "ItemEmbedding",
    "Mode",
    "adapters",
    "build",
    "check_tensors",
    "from_pretrained",
    "load",
    "merge_and_unload",
    "replace_embedding",
    "restore",
    "save",
    "save_pretrained",
]
