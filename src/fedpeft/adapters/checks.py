"""Checks of tensors that come from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fedpeft.errors import ArtifactError, InputError


def check_tensors(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, Any], what: str, *, finite: bool = True
) -> None:
    """Raise `ArtifactError` unless `tensors` are just the named, shaped, finite ones expected."""
    if set(tensors) != set(shapes):
        raise ArtifactError(f"{what}: tensors must be {sorted(shapes)}, got {sorted(tensors)}")
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != tuple(shape):
            raise ArtifactError(
                f"{what}: tensor {name!r} must have shape {tuple(shape)}, "
                f"got {tuple(tensors[name].shape)}"
            )
        if finite and tensors[name].is_floating_point() and not tensors[name].isfinite().all():
            raise ArtifactError(f"{what}: tensor {name!r} holds NaN or infinity")


def check_padding(index: int | None, items: int) -> int | None:
    """Return a padding index counted from the start; negative ones count from the end."""
    if index is not None and not -items <= index < items:
        raise InputError(f"padding_idx = {index} must be an id of the {items} items")
    return index if index is None or index >= 0 else items + index


def table_fault(table: Tensor, padding_idx: int | None) -> str | None:
    """Return why a table of item vectors cannot stand below an adapter, and what to do; or None."""
    if not table.is_floating_point():
        return f"its table is {table.dtype}, not of floating-point numbers"
    if not bool(table.isfinite().all()):
        return "its table holds NaN or infinity"
    if padding_idx is not None and bool(table[padding_idx].any()):
        return (
            "its padding vector is not zero (an init loop over all tables does that); set row "
            f"{padding_idx} of the table to zero first, or padding_idx to None if it is an item"
        )
    return None
