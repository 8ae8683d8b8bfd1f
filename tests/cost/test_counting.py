"""Operations, capacity and odd shapes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fedpeft.adapters import AdapterConfig, ItemContext, ItemEmbedding, adapters
from fedpeft.backbones.fedmf import FedMF, FedMFConfig
from fedpeft.cost import Scale, Strategy, costs
from fedpeft.cost.capacity import choices, expected_draws, expected_sets
from fedpeft.cost.compute import train_step
from fedpeft.cost.counter import counted
from fedpeft.cost.formulas import FORMULAS
from fedpeft.cost.strategy import shapes_only
from fedpeft.errors import ConfigError
from fedpeft.protocol.messages import (
    Upload,
)
from fedpeft.training import TrainingConfig

from .tools import ADAPTERS, adapter_config, names

SMALL = st.integers(1, 9)


def strategy(kind: str, config: AdapterConfig, **training: Any) -> Strategy:
    backend = {"rounds": 5, "warmup_rounds": 0, "refresh_every": 0, **training}
    return Strategy(
        kind, kind, config, TrainingConfig(**backend), lambda i: FedMF(FedMFConfig(), i)
    )


@settings(max_examples=30, deadline=None)
@given(
    adapter=st.sampled_from(sorted(ADAPTERS)),
    mode=st.sampled_from(["peft", "compress"]),
    n=SMALL,
    k=SMALL,
    rank=SMALL,
    d=st.integers(2, 20),
    h=SMALL,
    touched=st.integers(1, 20),
)
def test_any_shape(
    adapter: str, mode: str, n: int, k: int, rank: int, d: int, h: int, touched: int
) -> None:
    """n = 1, rank > k, d > n, l = 1: what is told is what is there."""
    kind, extra = ADAPTERS[adapter]
    own: dict[str, dict[str, Any]] = {
        "full": {},
        "lora": {"rank": rank},
        "hash": {"rows": d, "hashes": h, "pooling": extra.get("pooling", "mean")},
        "rq": {"codes": d, "levels": h},
    }
    config = adapter_config(kind, {**own[kind], "mode": mode})
    scale = Scale(n, k, clients=3, touched=touched)
    (cost,) = costs([strategy(kind, config)], scale, measured=False)
    codes = {"codes": torch.randint(d, (n, h)) + torch.arange(h) * d}
    item = adapters.get(kind).build(config, ItemContext(torch.randn(n, k), 0, frozen=codes))
    assert cost.capacity.parameters == item.payload_values
    assert cost.sent_as("float32").upload_round == Upload.size(4 * item.payload_values)
    assert cost.sent_as("float32").base == item.base_bytes
    told, letters = FORMULAS[adapter], names(scale, config)
    with FlopCounterMode(display=False) as products:
        item(torch.zeros(1, dtype=torch.int64))
    assert cost.computation.vector.matmul == products.get_total_flops()
    assert cost.computation.vector.matmul == eval(told.matmul, letters)
    without_base = k if mode == "compress" and kind != "full" else 0
    assert cost.computation.vector.elementwise == eval(told.elementwise, letters) - without_base
    with FlopCounterMode(display=False) as products:
        train_step(item, torch.arange(min(n, touched)))
    assert cost.computation.step.matmul == products.get_total_flops()
    assert cost.computation.step.matmul == eval(told.step_matmul, letters)
    assert cost.computation.step.flops >= min(n, touched) * cost.computation.vector.flops
    found = choices(item)
    assert 1 <= found.distinct <= min(n, cost.capacity.reachable or n)
    assert found.alone <= found.distinct


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_ten_million_items_take_no_memory(adapter: str) -> None:
    """Any table of these would be beyond what tests may take; counting does not notice."""
    kind, extra = ADAPTERS[adapter]
    backend = strategy(kind, adapter_config(kind, extra), warmup_rounds=0 if kind == "full" else 1)
    (cost,) = costs([backend], Scale(2**31 - 1, 512, 5, 4), measured=False)
    assert cost.storage.server.total > 2**31


def test_counter_by_hand() -> None:
    with counted() as count:
        x = torch.ones(2, 3)
        (x @ torch.ones(3, 5)).sum()  # 60; 9 additions
        x.mean(1) + 1  # 6 and 2
        x.relu().clone()  # 6 and none
        torch.arange(4) % 3  # 4 on whole numbers
        _ = x > 0
    assert count.operations.matmul == 60
    assert count.operations.elementwise == 9 + 6 + 2 + 6
    assert count.operations.integer == 4
    assert count.operations.flops == 83


def test_step_counts_gradients_and_the_move() -> None:
    """The full table: b rows of gradient arrive, and b k values move."""
    (cost,) = costs(
        [strategy("full", adapter_config("full", {}))], Scale(50, 4, 2, 7), measured=False
    )
    assert cost.computation.step.elementwise == 7 * 4
    assert cost.computation.step.matmul == 0


@pytest.mark.parametrize(("items", "rows", "hashes"), [(5, 3, 2), (2, 4, 3), (1, 1, 2), (6, 2, 4)])
def test_expected_sets_by_enumeration(items: int, rows: int, hashes: int) -> None:
    """Each multiset is missed by all items with the chance that the formula gives."""
    chances: dict[tuple[int, ...], float] = {}
    for drawn in itertools.product(range(rows), repeat=hashes):
        chances[tuple(sorted(drawn))] = chances.get(tuple(sorted(drawn)), 0) + rows**-hashes
    slow = sum(1 - (1 - chance) ** items for chance in chances.values())
    assert expected_sets(items, rows, hashes) == pytest.approx(slow)
    assert len(chances) == math.comb(rows + hashes - 1, hashes)


def test_expected_draws() -> None:
    assert expected_draws(1, 10**30) == pytest.approx(1)
    assert expected_draws(10**9, 4) == pytest.approx(4)
    assert expected_draws(3, 1) == 1


@pytest.mark.parametrize("pooling", ["mean", "senet"])
def test_hash_functions_spread_as_expected(pooling: str) -> None:
    """At least as many distinct choices as random rows would give; a trap gives one per row, 64."""
    config = adapter_config("hash", {"rows": 64, "hashes": 2, "pooling": pooling})
    scale = Scale(2000, 2, 1, 1)
    (cost,) = costs([strategy("hash", config)], scale, measured=False)
    found = []
    for seed in range(30):
        item = adapters.get("hash").build(config, ItemContext(torch.zeros(2000, 2), seed))
        found.append(choices(item).distinct)
    mean = sum(found) / 30
    assert 0.97 * cost.capacity.expected_distinct < mean < 1.25 * cost.capacity.expected_distinct


def test_choices_by_hand() -> None:
    config = adapter_config("rq", {"codes": 3, "levels": 2})
    codes = torch.tensor([[0, 3], [0, 4], [0, 3], [2, 5]])
    item = adapters.get("rq").build(
        config, ItemContext(torch.zeros(4, 2), 0, frozen={"codes": codes})
    )
    assert (choices(item).distinct, choices(item).alone) == (3, 2)


@pytest.mark.parametrize(
    ("adapter", "expected"), [("Full", 6), ("LoRA", 3), ("Hash", 6), ("RQ", 6)]
)
def test_measured_rank(adapter: str, expected: int) -> None:
    kind, extra = ADAPTERS[adapter]
    (cost,) = costs(
        [strategy(kind, adapter_config(kind, extra))], Scale(300, 6, 2, 3), measured=True
    )
    assert cost.measured is not None
    assert cost.measured.rank == cost.capacity.rank == expected


class Nosy(ItemEmbedding):
    """An adapter of somebody else that looks at values while it is built."""

    kind = "nosy"

    def __init__(self, config: AdapterConfig, context: ItemContext) -> None:
        super().__init__(config, context)
        scale = float(context.base.abs().max())
        self.shift = nn.Parameter(torch.full((self.embedding_dim,), scale))

    def lookups(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {}

    def compose(self, rows: Any, whole: Any, base: torch.Tensor | None) -> torch.Tensor:
        assert base is not None
        return base + whole["shift"]


def test_an_adapter_that_needs_values_is_refused() -> None:
    adapters.register("nosy", config=AdapterConfig, build=Nosy)
    try:
        with pytest.raises(ConfigError, match="costs cannot be told from shapes"), shapes_only():
            strategy("nosy", AdapterConfig()).sketch(Scale(5, 2, 1, 1))
    finally:
        adapters.unregister("nosy")
