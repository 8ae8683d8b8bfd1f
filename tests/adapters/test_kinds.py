"""What is particular to each kind of adapter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.adapters import ItemContext, ItemEmbedding, adapters, build
from fedpeft.adapters.hash import PRIME, HashTable, _draw
from fedpeft.config import parse
from fedpeft.errors import ConfigError
from fedpeft.seeding import torch_rng
from fedpeft.testing.toy import random_base


def made(kind: str, n: int = 30, k: int = 6, seed: int = 0, **config: Any) -> ItemEmbedding:
    settings = parse(adapters.get(kind).config, config, "adapter")
    return build(kind, settings, ItemContext(random_base(n, k), seed))  # type: ignore[arg-type]


def alone(index: torch.Tensor) -> float:
    """Return the share of items whose set of rows no other item has."""
    _, counts = torch.unique(index.sort(dim=1).values, dim=0, return_counts=True)
    return float((counts == 1).sum()) / len(index)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("lora", {"rank": 0}),
        ("lora", {"init_std": 0}),
        ("lora", {"mode": "both"}),
        ("lora", {"alpha": 16}),
        ("hash", {"rows": 0}),
        ("hash", {"hashes": 17}),
        ("hash", {"pooling": "max"}),
        ("rq", {"levels": 0}),
        ("rq", {"codes": 1}),
        ("rq", {"source": "thin air"}),
        ("full", {"rank": 3}),
    ],
)
def test_bad_settings_are_named(kind: str, config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"adapter\.{next(iter(config))}"):
        made(kind, **config)


class TestFull:
    def test_peft_is_the_base_and_compress_is_not(self) -> None:
        base = random_base(500, 8)
        config = adapters.get("full").config
        peft = build("full", config(), ItemContext(base, 0))
        assert torch.equal(peft.get_parameter("weight"), base)
        random = build("full", config(mode="compress", init_std=0.3), ItemContext(base, 0))
        assert float(random.merge().std()) == pytest.approx(0.3, rel=0.05)

    def test_needs_no_base_beside_it(self) -> None:
        assert made("full").base is None
        assert made("full").base_bytes == 0


class TestLoRA:
    def test_correction_has_the_rank_it_says(self) -> None:
        adapter = made("lora", n=40, k=10, rank=3)
        with torch.no_grad():
            adapter.get_parameter("B").normal_(generator=torch.Generator().manual_seed(0))
        delta = adapter.merge() - adapter.base
        assert torch.linalg.matrix_rank(delta.double(), atol=1e-5) == 3

    def test_start(self) -> None:
        adapter = made("lora", n=4000, rank=4, init_std=0.2)
        assert float(adapter.get_parameter("A").detach().std()) == pytest.approx(0.2, rel=0.05)
        assert not adapter.get_parameter("B").any()

    @pytest.mark.parametrize(("rank", "k"), [(3, 8), (8, 3)])
    def test_start_from_an_orthonormal_b(self, rank: int, k: int) -> None:
        adapter = made("lora", n=20, k=k, rank=rank, zero="A")
        assert not adapter.get_parameter("A").any()
        b = adapter.get_parameter("B").detach()
        gram = b @ b.T if rank <= k else b.T @ b
        torch.testing.assert_close(gram, torch.eye(min(rank, k)), atol=1e-5, rtol=0)
        other = made("lora", n=20, k=k, seed=1, rank=rank, zero="A").get_parameter("B")
        assert not torch.allclose(b, other), "another subspace every time"

    def test_is_base_plus_a_times_b(self) -> None:
        adapter = made("lora", n=5, k=3, rank=2)
        with torch.no_grad():
            adapter.get_parameter("B").fill_(0.5)
        rows = adapter.get_parameter("A").detach()
        expected = adapter.base + 0.5 * rows.sum(1, keepdim=True)
        torch.testing.assert_close(adapter.merge(), expected)


class TestHash:
    @pytest.mark.parametrize("seed", range(5))
    def test_distinct_index_tuples_are_about_as_many_as_can_be(self, seed: int) -> None:
        """Functions that both reduce to the id modulo d give 512 pairs for 3,952 items."""
        adapter = made("hash", n=3952, k=2, seed=seed, rows=512, hashes=2)
        index = adapter.lookups(torch.arange(3952))["table"]
        ideal = 512**2 * (1 - (1 - 1 / 512**2) ** 3952)  # expected number of occupied cells
        assert len(torch.unique(index, dim=0)) > 0.99 * ideal
        # rows are pooled, so their order is lost: an item is alone with about 1 - 2 n / d^2
        assert isinstance(adapter, HashTable)
        assert adapter.distinct_fraction() > 0.95

    @pytest.mark.parametrize(
        ("n", "rows", "hashes", "seeds"),
        [(1682, 512, 2, 300), (3706, 512, 2, 300), (3706, 500, 2, 200), (3706, 256, 2, 200),
         (3706, 64, 4, 100), (60, 16, 2, 300), (100_000, 512, 2, 20)],
    )  # fmt: skip
    def test_no_draw_is_far_below_a_random_choice(
        self, n: int, rows: int, hashes: int, seeds: int
    ) -> None:
        """Some functions give consecutive ids the same rows in pairs, or worse."""
        rng = torch.Generator().manual_seed(0)
        ideal = sum(alone(torch.randint(rows, (n, hashes), generator=rng)) for _ in range(5)) / 5
        config = adapters.get("hash").config(rows=rows, hashes=hashes)
        base = torch.zeros(1, 1).expand(n, 1)
        for seed in range(seeds):
            adapter = build("hash", config, ItemContext(base, seed))
            found = alone(adapter.lookups(torch.arange(n))["table"])
            assert found == adapter.distinct_fraction()
            assert found >= (0.9 if n > 1000 else 0.85) * ideal, seed

    def test_a_draw_that_collides_is_not_taken(self) -> None:
        """Of the first draws of 300 seeds some collide; those that do not are kept."""
        taken = [made("hash", 3706, 1, s).get_buffer("coefficients") for s in range(300)]
        config = adapters.get("hash").config()
        first = [_draw(config, torch_rng(seed, "hash")) for seed in range(300)]
        kept = [torch.equal(one, other) for one, other in zip(taken, first, strict=True)]
        assert 0 < kept.count(False) < 30
        rows = [
            alone((torch.arange(3706)[:, None] * c[:, 0] + c[:, 1]) % PRIME % 512) for c in first
        ]
        assert min(rows) < 0.5
        assert all(share > 0.9 for share, well in zip(rows, kept, strict=True) if well)

    def test_more_items_than_sets_of_rows(self) -> None:
        """Then nobody is alone, and the items are spread evenly."""
        for seed in range(20):
            adapter = made("hash", 5000, 1, seed, rows=32)
            index = adapter.lookups(torch.arange(5000))["table"].sort(dim=1).values
            _, counts = torch.unique(index, dim=0, return_counts=True)
            pairs = float((counts * (counts - 1) / 2).sum())
            assert pairs < 1.15 * 5000 * 4999 / 2 * 2 / 32**2, seed

    def test_functions_that_are_given_are_not_drawn_again(self) -> None:
        """A saved adapter's, a server's: whatever they are, and whatever drew them."""
        bad = torch.tensor([[1, 0], [1, 0]])
        context = ItemContext(random_base(30, 6), 0, frozen={"coefficients": bad})
        adapter = build("hash", adapters.get("hash").config(), context)
        assert torch.equal(adapter.get_buffer("coefficients"), bad)

    def test_distinct_fraction_by_hand(self) -> None:
        adapter = made("hash", n=4, rows=1)
        assert adapter.distinct_fraction() == 0  # type: ignore[operator]
        assert made("hash", n=1, rows=1).distinct_fraction() == 1  # type: ignore[operator]

    @pytest.mark.parametrize("rows", [512, 500])
    def test_rows_are_used_evenly(self, rows: int) -> None:
        index = made("hash", n=20000, k=1, rows=rows).lookups(torch.arange(20000))["table"]
        for column in index.T:
            counts = torch.bincount(column, minlength=rows).double()
            chi = float(((counts - 20000 / rows) ** 2).sum() / (20000 / rows))
            assert chi < rows + 6 * (2 * rows) ** 0.5

    @given(st.lists(st.integers(0, PRIME - 1), min_size=1, max_size=5), st.integers(0, 9))
    def test_hashes_are_exact_for_any_id(self, ids: list[int], seed: int) -> None:
        """The product a * id stays within int64; checked against Python's integers."""
        adapter = made("hash", n=2, seed=seed, rows=77, hashes=3)
        index = adapter.lookups(torch.tensor(ids))["table"]
        pairs = adapter.get_buffer("coefficients").tolist()
        expected = [[(a * item + b) % PRIME % 77 for a, b in pairs] for item in ids]
        assert index.tolist() == expected

    def test_another_seed_is_another_hash(self) -> None:
        one, two = (made("hash", seed=seed).get_buffer("coefficients") for seed in (0, 1))
        assert not torch.equal(one, two)

    def test_pooling(self) -> None:
        mean = made("hash", mode="compress", rows=20, hashes=3)
        rows = mean.lookups(torch.arange(30))["table"]
        expected = mean.get_parameter("table").detach()[rows].mean(1)
        torch.testing.assert_close(mean.merge(), expected)

    def test_untrained_senet_is_the_mean(self) -> None:
        senet = made("hash", mode="compress", rows=20, hashes=3, pooling="senet")
        rows = senet.lookups(torch.arange(30))["table"]
        torch.testing.assert_close(
            senet.merge(), senet.get_parameter("table").detach()[rows].mean(1)
        )

    def test_trained_senet_weighs_rows_by_their_own_content(self) -> None:
        senet = made("hash", mode="compress", rows=20, hashes=2, pooling="senet")
        with torch.no_grad():
            senet.get_parameter("squeeze").fill_(1.0)
            senet.get_parameter("excite").copy_(torch.tensor([[3.0, -3.0]]))
        found = senet.get_parameter("table").detach()[senet.lookups(torch.arange(30))["table"]]
        hidden = found.mean(-1).sum(-1, keepdim=True).clamp(min=0)
        weights = torch.sigmoid(hidden * torch.tensor([3.0, -3.0]))
        torch.testing.assert_close(senet.merge(), (weights.unsqueeze(-1) * found).sum(1))


class TestRQ:
    def test_codes_stay_within_their_level(self) -> None:
        adapter = made("rq", n=50, levels=3, codes=7)
        codes = adapter.get_buffer("codes")
        assert codes.shape == (50, 3)
        for level, column in enumerate(codes.T):
            assert 7 * level <= int(column.min()) <= int(column.max()) < 7 * (level + 1)

    def test_is_base_plus_one_codeword_per_level(self) -> None:
        adapter = made("rq", n=9, k=2, levels=2, codes=3)
        with torch.no_grad():
            adapter.get_parameter("codebooks").copy_(torch.arange(12.0).view(6, 2))
        words = adapter.get_parameter("codebooks").detach()
        codes = adapter.get_buffer("codes")
        expected = adapter.base + words[codes[:, 0]] + words[codes[:, 1]]
        torch.testing.assert_close(adapter.merge(), expected)

    def test_codes_follow_the_table_they_are_derived_from(self) -> None:
        """Items that a warm-up brought together share their first code."""
        centres = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
        block = torch.arange(30) % 3
        base = centres[block] + 0.01 * random_base(30, 2)
        config = adapters.get("rq").config(levels=2, codes=3)
        first = build("rq", config, ItemContext(base, 0)).get_buffer("codes")[:, 0]
        for kind in range(3):
            assert len(first[block == kind].unique()) == 1
        assert len(first.unique()) == 3

    def test_saved_codes_are_not_derived_again(self) -> None:
        config = adapters.get("rq").config(levels=2, codes=4)
        codes = torch.tensor([[3, 4], [0, 7], [1, 5]])
        context = ItemContext(random_base(3, 2), 0, frozen={"codes": codes})
        adapter = build("rq", config, context)
        assert torch.equal(adapter.get_buffer("codes"), codes)
        codes.zero_()
        assert adapter.get_buffer("codes").any()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("full", {}), ("lora", {}), ("rq", {}), ("hash", {}), ("hash", {"pooling": "senet"})],
)
def test_settings_tell_whether_the_adapter_is_linear(kind: str, settings: dict[str, str]) -> None:
    adapter = made(kind, **settings)
    assert adapter.config.linear == bool(adapter.columns)
