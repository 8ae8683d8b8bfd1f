"""All costs of a strategy, counted from shapes and, where asked for, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import torch

from fedpeft.adapters import ItemEmbedding
from fedpeft.cost.capacity import Capacity, Choices, capacity, choices, rank
from fedpeft.cost.communication import AS_SET, Communication, cohorts, communication
from fedpeft.cost.compute import Computation, Timing, computation, timing
from fedpeft.cost.storage import Storage, artifact_bytes, storage
from fedpeft.cost.strategy import Scale, Strategy, shapes_only
from fedpeft.errors import ConfigError
from fedpeft.protocol.encodings import CODECS
from fedpeft.seeding import torch_rng

TABLE_BYTES = 1 << 28
"""Tables of one row per item are measured with at most so many bytes; larger ones are cut."""

MEASURED_BYTES = 1 << 31
"""A module of more bytes than this is not built."""

CHOSEN_ROWS = 1 << 26
"""Choices are compared for so many rows at most, of all items together."""

DERIVED_ITEMS = 1 << 15
"""Codes of so many items at most are derived, from a table drawn at random; of more, drawn."""


@dataclass(frozen=True)
class Measurement:
    """What was measured on real tensors.

    Attributes
    ----------
    rows
        Items in the tables that were allocated: all of them where they fit `TABLE_BYTES`.
    storage, artifact
        Bytes in memory and on disk; None where the tables were cut.
    timing
        Milliseconds.
    choices
        Distinct choices of rows among all items; None for codes that were drawn, not derived, and
        for more than `CHOSEN_ROWS` rows.
    rank
        Rank of the corrections of a sample of items, all tensors drawn at random.
    """

    rows: int
    storage: Storage | None
    artifact: int | None
    timing: Timing
    choices: Choices | None
    rank: int


@dataclass(frozen=True)
class Cost:
    """Everything one strategy costs.

    Attributes
    ----------
    is_table, derived_rows
        Traits of the adapter; see `AdapterConfig`.
    communication
        One entry per value encoding, first the strategy's own setting.
    measured
        None where nothing was measured.
    """

    label: str
    kind: str
    is_table: bool
    derived_rows: bool
    communication: tuple[Communication, ...]
    storage: Storage
    computation: Computation
    capacity: Capacity
    measured: Measurement | None

    def sent_as(self, encoding: str) -> Communication:
        """Return the bytes under a value encoding, or `AS_SET`."""
        return next(entry for entry in self.communication if entry.encoding == encoding)


def costs(
    strategies: Sequence[Strategy],
    scale: Scale,
    *,
    measured: bool,
    encodings: Sequence[str] = (AS_SET, *CODECS),
) -> list[Cost]:
    """Return what strategies cost, in the same order.

    Parameters
    ----------
    encodings
        Value encodings that communication is told for; `AS_SET` is each strategy's own setting.
    measured
        Whether to measure as well; counting alone allocates no table, whatever the size.

    Raises
    ------
    ConfigError
        If an adapter of another package cannot be built from shapes, or a strategy is too large to
        be measured.
    """
    drawn = cache(lambda rounds, share: cohorts(rounds, share, scale))
    return [
        Cost(
            label=strategy.label,
            kind=strategy.kind,
            is_table=strategy.adapter.is_table,
            derived_rows=strategy.adapter.derived_rows,
            communication=communication(
                strategy,
                scale,
                encodings,
                drawn(strategy.training.rounds, strategy.training.cohort),
            ),
            storage=_storage(strategy, scale),
            computation=computation(strategy, scale),
            capacity=capacity(strategy.adapter, _parameters(strategy, scale), scale),
            measured=_measure(strategy, scale) if measured else None,
        )
        for strategy in strategies
    ]


def as_json(found: Sequence[Cost], scale: Scale) -> dict[str, Any]:
    """Return costs ready for JSON."""
    return {
        "scale": asdict(scale),
        "strategies": [
            # a list, as JSON reads it back
            {**asdict(cost), "communication": [asdict(entry) for entry in cost.communication]}
            for cost in found
        ],
    }


def _storage(strategy: Strategy, scale: Scale) -> Storage:
    with shapes_only():
        return storage(strategy.sketch(scale), strategy.training)


def _parameters(strategy: Strategy, scale: Scale) -> int:
    with shapes_only():
        return strategy.sketch(scale).item.payload_values


def _measure(strategy: Strategy, scale: Scale) -> Measurement:
    """Return what real tensors show, of as many items as fit."""
    rows = max(1, min(scale.items, TABLE_BYTES // (4 * scale.dim)))
    _check_size(strategy, scale, rows)
    whole, derive = rows == scale.items, rows <= DERIVED_ITEMS
    base = torch.randn(rows, scale.dim, generator=torch_rng(scale.seed, "cost", "base"))
    backbone = strategy.build(base, scale.seed, derive=derive)
    item = backbone.item
    return Measurement(
        rows=rows,
        storage=storage(backbone, strategy.training) if whole else None,
        artifact=artifact_bytes(item) if whole else None,
        timing=timing(item, scale),
        choices=_choices(strategy, scale, item if whole else None),
        rank=rank(item, scale.seed),
    )


def _check_size(strategy: Strategy, scale: Scale, rows: int) -> None:
    with shapes_only():
        sketch = strategy.sketch(replace(scale, items=rows))
        needed = storage(sketch, strategy.training).client.total
    if needed > MEASURED_BYTES:
        raise ConfigError(
            f"{strategy.label} takes {needed / 1e9:,.1f} GB with {rows:,} items, too much to "
            f"measure (the most is {MEASURED_BYTES / 1e9:.1f} GB); --no-measure counts only"
        )


def _choices(strategy: Strategy, scale: Scale, item: ItemEmbedding | None) -> Choices | None:
    """Return the choices of all items; `item` is their module, where it was built."""
    if strategy.adapter.derived_rows and scale.items > DERIVED_ITEMS:
        return None
    if item is None:
        if scale.items * _rows_of_an_item(strategy, scale) > CHOSEN_ROWS:
            return None
        # which rows an item has does not depend on how long they are
        thin = torch.zeros(scale.items, 1)
        item = strategy.build(thin, scale.seed).item
    return choices(item)


def _rows_of_an_item(strategy: Strategy, scale: Scale) -> int:
    """Return how many rows an item looks up, in all tensors together."""
    with shapes_only():
        item = strategy.sketch(replace(scale, items=1)).item
        found = item.lookups(torch.zeros(1, dtype=torch.int64))
        return sum(index.numel() for index in found.values())
