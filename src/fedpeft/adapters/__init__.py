"""Adapters: the few trainable tensors that represent or correct item vectors."""

from fedpeft.adapters.artifact import build, load, restore, save
from fedpeft.adapters.base import ItemContext, ItemEmbedding, adapters
from fedpeft.adapters.checks import check_tensors
from fedpeft.adapters.config import AdapterConfig, Mode
from fedpeft.adapters.payload import load_payload_state_dict, payload_state_dict
from fedpeft.adapters.plug import (
    from_pretrained,
    merge_and_unload,
    print_trainable_parameters,
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
    "load_payload_state_dict",
    "merge_and_unload",
    "payload_state_dict",
    "print_trainable_parameters",
    "replace_embedding",
    "restore",
    "save",
    "save_pretrained",
]
