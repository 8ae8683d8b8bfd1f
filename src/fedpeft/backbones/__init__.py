"""Backbones: the scoring model of one client."""

from fedpeft.backbones.base import Backbone, BackboneConfig, backbones
from fedpeft.backbones.history import Context, ExpansionConfig, HistoryBackbone

__all__ = [
    "Backbone",
    "BackboneConfig",
    "Context",
    "ExpansionConfig",
    "HistoryBackbone",
    "backbones",
]
