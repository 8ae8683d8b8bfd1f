"""Transforms: what a client does to its update before the update is weighted and encoded."""

from fedpeft.transforms.base import (
    TransformContext,
    UpdateTransform,
    build,
    complete,
    transforms,
)

__all__ = ["TransformContext", "UpdateTransform", "build", "complete", "transforms"]
