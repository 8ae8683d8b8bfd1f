"""Transforms: what a client does to its change before it weighs, encodes and sends it."""

from fedpeft.transforms.base import UpdateTransform, build_transforms, complete, transforms

__all__ = ["UpdateTransform", "build_transforms", "complete", "transforms"]
