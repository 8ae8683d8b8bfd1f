"""The seam for what happens to a client's change before it is sent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fedpeft.adapters import ItemEmbedding
from fedpeft.config import ConfigModel, parse
from fedpeft.errors import ConfigError
from fedpeft.registry import Registry
from fedpeft.tensors import Tensors


class UpdateTransform(ABC):
    """What a client does to its change before it weighs, encodes and sends it.

    It changes values, never names or shapes.  Built as ``build(config, seed)``; randomness comes
    from `fedpeft.streams`, named by seed, round and client.  A transform keeps nothing from one
    round to the next, so that a run can be resumed and any upload be made again.
    """

    dense: bool = False
    """Whether every row of item-indexed tensors is needed, not only those a client touched.  True
    for whatever depends on the number of rows or would move untouched ones, such as noise."""

    def begin(self, round_number: int, item: ItemEmbedding) -> None:
        """Begin a round, in which an item embedding travels."""
        return

    @abstractmethod
    def on_user(self, change: Tensors, ids: Tensor) -> Tensors:
        """Return what C clients send instead of their changes.

        Parameters
        ----------
        change
            name -> float (C, ...): payload after local training minus payload before.
        ids
            int64 (C,): the clients, by the numbers that name their streams.
        """

    @property
    def bound(self) -> float | None:
        """The largest L2 norm of what it returns, over all tensors; None where there is none.

        A server that sees single uploads holds each to it, unless a transform without a bound
        comes later.
        """
        return None


transforms: Registry[UpdateTransform] = Registry(
    "transform", "transforms", builtin=("fedpeft.transforms.clip",)
)


def complete(tables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return tables of settings, one per transform by its registered name, checked and completed.

    Raises
    ------
    ConfigError
        If a transform or a setting is unknown, or a value out of range.
    """
    for kind, table in tables.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"{kind} = {table!r}: must be a table of settings")
    return {
        kind: _settings(kind, table).model_dump(mode="json", exclude_none=True)
        for kind, table in tables.items()
    }


def build_transforms(tables: Mapping[str, Any], seed: int) -> list[UpdateTransform]:
    """Return the transforms of a run, in the order they are written down."""
    return [
        transforms.get(kind).build(_settings(kind, table), seed) for kind, table in tables.items()
    ]


def _settings(kind: str, table: Mapping[str, Any]) -> ConfigModel:
    return parse(transforms.get(kind).config, table, kind)
