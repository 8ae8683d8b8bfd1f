"""Backbones: the scoring model of one client."""

from fedpeft.backbones.base import Backbone, BackboneConfig, backbones

__all__ = ["Backbone", "BackboneConfig", "backbones"]
