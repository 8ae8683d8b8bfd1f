"""Losses: what a client's local training minimises."""

from fedpeft.losses.base import Loss, losses

__all__ = ["Loss", "losses"]
