"""Losses: what a client's local training minimises."""

from fedpeft.losses.base import Loss, LossConfig, losses

__all__ = ["Loss", "LossConfig", "losses"]
