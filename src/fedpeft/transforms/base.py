"""Transforms a run is configured with: what happens to each client's update before it is sent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fedpeft.adapters import ItemEmbedding
from fedpeft.config import ConfigModel, parse
from fedpeft.errors import ConfigError
from fedpeft.registry import Registry

if TYPE_CHECKING:  # it imports the settings, which name transforms
    from fedpeft.tensors import Tensors


@dataclass(frozen=True)
class TransformContext:
    """What a transform may be built from.

    Attributes
    ----------
    clients
        Number of clients in the population.
    seed
        Seed of the run; randomness comes from `fedpeft.seeding`, named by seed, round and user.
    """

    clients: int
    seed: int


class UpdateTransform(ABC):
    """Changes the values of updates between the client and the average, never their shapes.

    Built as ``build(config, context)``.  A transform keeps nothing from one round to the next, so
    that a run can be resumed: what it needs it derives from the seed and the round.
    """

    dense: bool = False
    """Whether every row of item-indexed tensors is needed, not only those a client touched.  True
    for whatever depends on the number of rows or would move untouched ones, such as noise."""

    def begin(self, round_number: int, item: ItemEmbedding) -> None:
        """Begin a round, in which an item embedding travels."""
        return

    @abstractmethod
    def on_user(self, change: Tensors, users: Tensor) -> Tensors:
        """Return what C clients send instead of their changes.

        Parameters
        ----------
        change
            name -> float (C, ...): payload after local training minus payload before.
        users
            int64 (C,): the clients.
        """

    def on_mean(self, change: Tensors, clients: int) -> Tensors:
        """Return what the server takes for the mean change, name -> float (...), of its clients."""
        return change


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


def build(tables: Mapping[str, Any], context: TransformContext) -> list[UpdateTransform]:
    """Return the transforms of a run, in the order they are written down."""
    return [
        transforms.get(kind).build(_settings(kind, table), context)
        for kind, table in tables.items()
    ]


def _settings(kind: str, table: Mapping[str, Any]) -> ConfigModel:
    return parse(transforms.get(kind).config, table, kind)
