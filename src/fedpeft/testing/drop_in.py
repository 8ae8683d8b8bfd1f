"""What every adapter must do to stand in for `torch.nn.Embedding` in a model we did not write."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedpeft.adapters import (
    AdapterConfig,
    ItemContext,
    ItemEmbedding,
    Mode,
    adapters,
    build,
    merge_and_unload,
    replace_embedding,
)
from fedpeft.config import parse
from fedpeft.errors import InputError
from fedpeft.testing.toy import random_base

MODES: tuple[Mode, ...] = ("peft", "compress")
HALVES = (torch.float16, torch.bfloat16)
IDS = torch.tensor([[3, 0, 22], [7, 3, 3]])


class DropInContract:
    """The part of `AdapterContract` about torch; see there.

    Attributes
    ----------
    kind
        The registered name.
    config
        Settings that differ from the adapter's defaults; not `mode`, both are run.
    """

    kind: ClassVar[str]
    config: ClassVar[Mapping[str, Any]] = {}

    def settings(self, mode: Mode) -> AdapterConfig:
        """Return the adapter's configuration in a mode."""
        config = parse(adapters.get(self.kind).config, {**self.config, "mode": mode}, "adapter")
        assert isinstance(config, AdapterConfig)
        return config

    def make(
        self, mode: Mode, base: Tensor | None = None, seed: int = 1, padding_idx: int | None = None
    ) -> ItemEmbedding:
        """Return a new adapter, by default on a random base of 23 items and 6 dimensions."""
        base = random_base(23, 6) if base is None else base
        context = ItemContext(base, seed, padding_idx=padding_idx)
        return build(self.kind, self.settings(mode), context)

    def trained(
        self, mode: Mode, base: Tensor | None = None, padding_idx: int | None = None
    ) -> ItemEmbedding:
        """Return an adapter whose payload is nowhere what it started as."""
        adapter = self.make(mode, base, padding_idx=padding_idx)
        rng = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for tensor in adapter.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=rng))
        return adapter

    @pytest.mark.parametrize("mode", MODES)
    def test_takes_int32_ids(self, mode: Mode) -> None:
        adapter = self.trained(mode)
        assert torch.equal(adapter(IDS.int()), adapter(IDS))

    @pytest.mark.parametrize("mode", MODES)
    def test_weight_is_the_table_and_trains_the_adapter(self, mode: Mode) -> None:
        adapter = self.trained(mode)
        assert torch.equal(adapter.weight, adapter.merge())
        (torch.ones(2, 6) @ adapter.weight.T).square().sum().backward()
        tied = {name: tensor.grad for name, tensor in adapter.named_parameters()}
        adapter.zero_grad()
        (torch.ones(2, 6) @ adapter(torch.arange(23)).T).square().sum().backward()
        for name, tensor in adapter.named_parameters():
            torch.testing.assert_close(tied[name], tensor.grad)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("item", [-1, 23, 10**6])
    def test_ids_that_are_no_item_are_refused_as_by_an_embedding(
        self, mode: Mode, item: int
    ) -> None:
        with pytest.raises(IndexError):
            self.trained(mode)(torch.tensor([3, item]))

    @pytest.mark.parametrize("mode", MODES)
    def test_writing_into_weight_acts_or_is_refused(self, mode: Mode) -> None:
        adapter = self.trained(mode)
        wanted = random_base(23, 6, seed=5)
        try:
            with torch.no_grad():
                adapter.weight.copy_(wanted)
        except InputError:
            assert not torch.equal(adapter.merge(), wanted)
        else:
            assert torch.equal(adapter.merge(), wanted)

    @pytest.mark.parametrize("mode", MODES)
    def test_attributes_are_those_of_an_embedding(self, mode: Mode) -> None:
        adapter, plain = self.make(mode, padding_idx=-1), nn.Embedding(23, 6, padding_idx=-1)
        for name in ("num_embeddings", "embedding_dim", "padding_idx", "max_norm", "norm_type"):
            assert getattr(adapter, name) == getattr(plain, name), name
        assert (adapter.scale_grad_by_freq, adapter.sparse) == (False, False)
        weight = adapter.weight
        assert (len(weight), weight.shape, weight.dtype) == (23, (23, 6), torch.float32)

    @pytest.mark.parametrize("mode", MODES)
    def test_gradients_scaled_by_frequency(self, mode: Mode) -> None:
        """The gradient of an item's vector is divided by how often the call names the item."""
        adapter, plain = self.trained(mode), self.trained(mode)
        adapter.scale_grad_by_freq = True
        torch.testing.assert_close(adapter(IDS), plain(IDS))
        adapter(IDS).square().sum().backward()
        counts = torch.bincount(IDS.flatten())[IDS]
        (plain(IDS).square().sum(-1) / counts).sum().backward()
        for one, other in zip(adapter.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)

    @pytest.mark.parametrize("mode", MODES)
    def test_replica_of_data_parallel_trains_the_original(self, mode: Mode) -> None:
        """As `torch.nn.parallel.replicate` makes one on each GPU: copies that are no parameters."""
        adapter, alone = self.trained(mode, padding_idx=0), self.trained(mode, padding_idx=0)
        replica = adapter._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        copies = {name: tensor * 1 for name, tensor in adapter.named_parameters()}
        replica._former_parameters = copies
        for name, tensor in copies.items():
            setattr(replica, name, tensor)
        for name, buffer in adapter.named_buffers():
            setattr(replica, name, buffer.clone())
        found = replica(IDS)
        assert torch.equal(found, alone(IDS))
        assert torch.equal(replica.weight, alone.weight)
        found.square().sum().backward()
        alone(IDS).square().sum().backward()
        for one, other in zip(adapter.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)

    @pytest.mark.parametrize("mode", MODES)
    def test_pickle_round_trip(self, mode: Mode) -> None:
        adapter = self.trained(mode, padding_idx=0)
        again = pickle.loads(pickle.dumps(adapter))
        assert torch.equal(again(IDS), adapter(IDS))
        assert again.mark == adapter.mark

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("padding", [0, 5, -1])
    def test_padding_is_zero_and_does_not_train(self, mode: Mode, padding: int) -> None:
        adapter, free = self.trained(mode, padding_idx=padding), self.trained(mode)
        assert adapter.padding_idx == padding % 23
        ids = torch.tensor([4, padding % 23, 9])
        found = adapter(ids)
        assert torch.equal(found[1], torch.zeros(6))
        torch.testing.assert_close(found[::2], free(ids[::2]))
        assert torch.equal(adapter.merge()[padding], torch.zeros(6))
        found.sum().backward()
        free(ids[::2]).sum().backward()
        for one, other in zip(adapter.parameters(), free.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)

    @pytest.mark.parametrize("mode", MODES)
    def test_functional_call_and_vmap_equal_one_by_one(self, mode: Mode) -> None:
        """Many clients at once, each with its own payload and items, as `torch.func` does it."""
        adapter = self.trained(mode, padding_idx=0)
        own = {name: tensor.detach() for name, tensor in adapter.named_parameters()}
        clients = {name: torch.stack([tensor, 2 * tensor]) for name, tensor in own.items()}

        def loss(tensors: dict[str, Tensor], ids: Tensor) -> Tensor:
            vectors: Tensor = functional_call(adapter, tensors, (ids,))
            return vectors.square().sum()

        together = vmap(grad(loss))(clients, IDS)
        for client in range(2):
            alone = copy.deepcopy(adapter)
            with torch.no_grad():
                for name, tensor in alone.named_parameters():
                    tensor.copy_(clients[name][client])
            alone(IDS[client]).square().sum().backward()
            for name, tensor in alone.named_parameters():
                torch.testing.assert_close(together[name][client], tensor.grad)

    @pytest.mark.parametrize("mode", MODES)
    def test_compiles_into_one_graph(self, mode: Mode) -> None:
        """Captured whole, forward and backward; needs no C++ compiler."""
        torch.compiler.reset()
        adapter = self.trained(mode, padding_idx=0)
        eager = copy.deepcopy(adapter)
        compiled = torch.compile(adapter, fullgraph=True, backend="aot_eager")
        found = compiled(IDS)
        torch.testing.assert_close(found, eager(IDS))
        found.square().sum().backward()
        eager(IDS).square().sum().backward()
        for one, other in zip(adapter.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("dtype", HALVES, ids=str)
    def test_works_in_half_precision(self, mode: Mode, dtype: torch.dtype) -> None:
        full = self.trained(mode)
        adapter = copy.deepcopy(full).to(dtype)
        assert adapter.base is None or adapter.base.dtype == dtype  # rounded, at half the memory
        found = adapter(IDS)
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), full(IDS), atol=0.1, rtol=0.05)
        assert adapter.merge().dtype == torch.float32
        found.sum().backward()
        assert all(tensor.grad is not None for tensor in adapter.parameters())
        adapter.load_payload(full.payload())
        assert torch.equal(adapter(IDS), found)

    @pytest.mark.parametrize("mode", MODES)
    def test_state_dict_needs_no_pickle(self, mode: Mode) -> None:
        adapter, file = self.trained(mode), io.BytesIO()
        torch.save(adapter.state_dict(), file)
        file.seek(0)
        other = self.make(mode, random_base(23, 6, seed=5), seed=6)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other.merge(), adapter.merge())

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
    def test_moves_to_the_gpu(self, mode: Mode) -> None:
        adapter = self.trained(mode, padding_idx=0)
        expected = adapter(IDS)
        moved = copy.deepcopy(adapter).cuda()
        found = moved(IDS.cuda())
        assert found.is_cuda
        torch.testing.assert_close(found.cpu(), expected)
        found.sum().backward()
        torch.testing.assert_close(moved.cpu().merge(), adapter.merge())

    @pytest.mark.parametrize("mode", MODES)
    def test_replaces_an_embedding_and_leaves_one(self, mode: Mode) -> None:
        """Swapping the module in, training, and unloading gives an ordinary embedding back."""
        table = random_base(23, 6)
        model = nn.Sequential(nn.Embedding.from_pretrained(table), nn.Linear(6, 1))
        settings = {**self.config, "mode": mode}
        adapter = replace_embedding(model, "0", kind=self.kind, seed=1, **settings)
        assert model[0] is adapter
        assert torch.equal(adapter.merge(), self.make(mode, table).merge())
        model(IDS).sum().backward()
        expected = model(IDS)
        merged = merge_and_unload(model)
        assert merged is model
        assert isinstance(model.get_submodule("0"), nn.Embedding)
        torch.testing.assert_close(model(IDS), expected)
