"""What every adapter must do."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from fedpeft.adapters import Mode, load, save
from fedpeft.errors import ArtifactError
from fedpeft.files import read_json, write_json
from fedpeft.protocol.encodings import Float32
from fedpeft.simulation.unobserved import AllItems
from fedpeft.testing.backends import assert_backends_agree
from fedpeft.testing.drop_in import MODES
from fedpeft.testing.subspace import SubspaceContract
from fedpeft.testing.toy import (
    BPR,
    GRADIENT,
    LEAST_SQUARES,
    PAPER,
    Chosen,
    Toy,
    quality,
    random_base,
)

SHAPES = [(), (0,), (1,), (7,), (2, 3), (2, 0), (2, 1, 4)]
EPS = {"kind": "adam", "lr": 0.02, "eps": 1e-3}
"""Adam that does not blow rounding up where gradients are tiny."""
STYLES: dict[str, tuple[Chosen, dict[str, Any]]] = {
    "solve": (LEAST_SQUARES, {"server_optimizer": EPS}),
    "local-first": (BPR, {**GRADIENT, "local_optimizer": EPS, "server_optimizer": EPS}),
    "paper": (("bce", {}), {**PAPER, "local_optimizer": EPS, "payload_optimizer": EPS}),
}


class AdapterContract(SubspaceContract):
    """Subclass it, name a registered adapter, and pytest checks it in both modes.

    Attributes
    ----------
    kind
        The registered name.
    config
        Settings that differ from the adapter's defaults; not `mode`, both are run.
    values
        ``(n, k) -> values of the payload``: what the documentation promises travels.
    ndcg_floor
        NDCG@10 to reach in `peft` mode on `block_split` after 60 rounds, refreshed every 15;
        chance is .15, a perfect model has 1.  Leave a margin of .1: rounding differs between
        processors.
    compress_floor
        The same in `compress` mode, without refresh.
    compresses
        Whether a payload in `compress` mode is at most a third of a table of 1,500 items and 32
        dimensions; true unless the adapter says otherwise.
    """

    values: ClassVar[Callable[[int, int], int]]
    ndcg_floor: ClassVar[float]
    compress_floor: ClassVar[float] = 0.5

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_looks_up_like_an_embedding(self, mode: Mode, shape: tuple[int, ...]) -> None:
        adapter = self.trained(mode)
        ids = torch.randint(23, shape, generator=torch.Generator().manual_seed(0))
        table = nn.Embedding.from_pretrained(adapter.merge())
        found = adapter(ids)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, table(ids))

    @pytest.mark.parametrize("mode", MODES)
    def test_items_do_not_see_each_other(self, mode: Mode) -> None:
        adapter = self.trained(mode)
        alone = torch.stack([adapter(torch.tensor(item)) for item in range(23)])
        torch.testing.assert_close(alone, adapter.merge())

    @pytest.mark.parametrize("mode", MODES)
    def test_declares_its_tensors(self, mode: Mode) -> None:
        adapter = self.make(mode)
        own = dict(adapter.named_parameters())
        assert adapter.kind == self.kind
        assert all(len(own[name]) == adapter.num_embeddings for name in adapter.item_indexed)
        assert all(tensor.dtype == torch.float32 for tensor in own.values())
        assert all(own[name].shape[-1] == adapter.embedding_dim for name in adapter.columns)
        for name, index in adapter.lookups(torch.arange(23)).items():
            assert index.dtype == torch.int64
            assert 0 <= int(index.min()) <= int(index.max()) < len(own[name])

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(("n", "k"), [(23, 6), (1, 6), (300, 2)])
    def test_payload_is_as_large_as_promised(self, mode: Mode, n: int, k: int) -> None:
        adapter = self.make(mode, random_base(n, k))
        assert adapter.payload_values == type(self).values(n, k)
        assert len(Float32().encode(adapter.payload())) == 4 * adapter.payload_values
        assert adapter.base_bytes in (0, 4 * n * k)

    def test_peft_starts_as_the_base(self) -> None:
        base = random_base(23, 6)
        assert torch.equal(self.make("peft", base).merge(), base)

    @pytest.mark.parametrize("mode", MODES)
    def test_start_depends_on_nothing_but_the_seed(self, mode: Mode) -> None:
        one, two = self.make(mode).state_dict(), self.make(mode).state_dict()
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)

    @pytest.mark.parametrize("mode", MODES)
    def test_compressed_table_starts_away_from_zero(self, mode: Mode) -> None:
        table = self.make(mode).merge()
        assert table.isfinite().all()
        assert float(table.std()) > 0

    @pytest.mark.parametrize("mode", MODES)
    def test_gradients_reach_the_whole_payload_and_nothing_else(self, mode: Mode) -> None:
        adapter = self.trained(mode)
        adapter(torch.arange(23)).square().sum().backward()
        for name, tensor in adapter.named_parameters():
            assert tensor.grad is not None, name
            assert tensor.grad.abs().max() > 0, name
        assert not any(buffer.requires_grad for buffer in adapter.buffers())

    @pytest.mark.parametrize("mode", MODES)
    def test_columns_are_what_they_are_declared_to_be(self, mode: Mode) -> None:
        adapter = self.trained(mode)
        if not adapter.columns:
            pytest.skip(f"{self.kind} declares no columns")
        readers = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))
        found = AllItems(adapter).squares_gradient(readers, 0.3)
        for client, reader in enumerate(readers):
            adapter.zero_grad()
            (0.15 * (adapter.weight @ reader).square().sum()).backward()
            for name, tensor in adapter.named_parameters():
                torch.testing.assert_close(found[name][client], tensor.grad, msg=name)

    @pytest.mark.parametrize("mode", MODES)
    def test_training_moves_the_payload_but_never_the_base(self, mode: Mode) -> None:
        """Base and frozen tensors are bit-identical after training."""
        base = random_base(23, 6)
        kept = base.clone()
        adapter = self.make(mode, base)
        before, frozen = adapter.merge(), {n: b.clone() for n, b in adapter.named_buffers()}
        sent = adapter.payload()
        model = nn.Sequential(adapter, nn.Linear(6, 1))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.arange(23)).sum().backward()
            optimizer.step()
        assert not torch.equal(adapter.merge(), before)
        assert torch.equal(base, kept)
        assert all(torch.equal(frozen[n], b) for n, b in adapter.named_buffers())
        assert any(not torch.equal(sent[n], p) for n, p in adapter.named_parameters())

    @pytest.mark.parametrize("mode", MODES)
    def test_the_base_given_may_change_afterwards(self, mode: Mode) -> None:
        base = random_base(23, 6)
        adapter = self.make(mode, base)
        before = adapter.merge()
        base.add_(1)
        assert torch.equal(adapter.merge(), before)

    @pytest.mark.parametrize("mode", MODES)
    def test_payload_and_frozen_are_copies(self, mode: Mode) -> None:
        adapter = self.trained(mode)
        before = adapter.merge()
        for tensor in (*adapter.payload().values(), *adapter.frozen().values()):
            tensor.fill_(0)
        adapter.merge().fill_(0)
        assert torch.equal(adapter.merge(), before)
        assert not any(tensor.requires_grad for tensor in adapter.payload().values())

    @pytest.mark.parametrize("mode", MODES)
    def test_payload_round_trip(self, mode: Mode) -> None:
        sender, receiver = self.trained(mode), self.make(mode)
        receiver.load_payload(sender.payload())
        assert torch.equal(receiver.merge(), sender.merge())
        for tensor in receiver.parameters():  # what was loaded is not a live reference either
            tensor.data.zero_()
        assert not torch.equal(receiver.merge(), sender.merge())

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("spoil", ["missing", "unknown", "shape", "nan", "infinite"])
    def test_wrong_payload_is_refused_whole(self, mode: Mode, spoil: str) -> None:
        """A payload that is not ours changes nothing."""
        adapter = self.trained(mode)
        before = adapter.merge()
        payload = {name: torch.zeros_like(tensor) for name, tensor in adapter.payload().items()}
        last = list(payload)[-1]
        if spoil == "missing":
            del payload[last]
        elif spoil == "unknown":
            payload["nobody"] = torch.zeros(1)
        elif spoil == "shape":
            payload[last] = payload[last].unsqueeze(0)
        else:
            payload[last].view(-1)[-1] = math.nan if spoil == "nan" else math.inf
        with pytest.raises(ArtifactError):
            adapter.load_payload(payload)
        assert torch.equal(adapter.merge(), before)

    @pytest.mark.parametrize("mode", MODES)
    def test_merge_is_the_table_of_forward(self, mode: Mode) -> None:
        adapter = self.trained(mode)
        table = adapter.merge()
        assert table.dtype == torch.float32
        assert not table.requires_grad
        assert torch.equal(table, adapter(torch.arange(23)))

    def test_merge_and_refresh_changes_no_item(self) -> None:
        table = self.trained("peft").merge()
        assert torch.equal(self.make("peft", table, seed=9).merge(), table)

    @pytest.mark.parametrize("mode", MODES)
    def test_saved_adapter_comes_back_bit_for_bit(self, mode: Mode, tmp_path: Path) -> None:
        base = random_base(23, 6)
        adapter = self.trained(mode, base)
        save(adapter, tmp_path)
        again = load(tmp_path, base)
        assert type(again) is type(adapter)
        assert again.config == adapter.config
        assert again.state_dict().keys() == adapter.state_dict().keys()
        for name, tensor in adapter.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), name
        assert torch.equal(again.merge(), adapter.merge())

    @pytest.mark.parametrize("mode", MODES)
    def test_wrong_base_is_refused(self, mode: Mode, tmp_path: Path) -> None:
        adapter = self.trained(mode)
        save(adapter, tmp_path)
        with pytest.raises(ArtifactError):
            load(tmp_path, random_base(24, 6))
        if adapter.base is not None:
            with pytest.raises(ArtifactError):
                load(tmp_path, random_base(23, 6) + 1e-6)

    @pytest.mark.parametrize("spoil", ["bit", "cut", "gone", "no tensors", "json", "schema", "key"])
    def test_corrupt_artifact_is_refused(self, spoil: str, tmp_path: Path) -> None:
        """A damaged file ends in `ArtifactError`, whatever the damage."""
        base = random_base(23, 6)
        save(self.trained("peft", base), tmp_path)
        meta, tensors = tmp_path / "adapter.json", tmp_path / "adapter.safetensors"
        data = bytearray(tensors.read_bytes())
        if spoil == "bit":
            data[-1] ^= 1
            tensors.write_bytes(data)
        elif spoil == "cut":
            tensors.write_bytes(data[:-7])
        elif spoil == "json":
            meta.write_text("[1, 2")
        elif spoil in ("schema", "key"):
            said = read_json(meta)
            write_json(meta, {**said, "schema": 99} if spoil == "schema" else {"schema": 1})
        else:
            (meta if spoil == "gone" else tensors).unlink()
        with pytest.raises(ArtifactError) as caught:
            load(tmp_path, base)
        assert len(str(caught.value).splitlines()) == 1

    @pytest.mark.parametrize("mode", MODES)
    def test_deep_copy_is_independent(self, mode: Mode) -> None:
        adapter = self.trained(mode)
        before = adapter.merge()
        other = copy.deepcopy(adapter)
        assert torch.equal(other.merge(), before)
        for tensor in other.parameters():
            tensor.data.zero_()
        assert torch.equal(adapter.merge(), before)

    @pytest.mark.parametrize("mode", MODES)
    def test_state_dict_round_trip(self, mode: Mode) -> None:
        adapter = self.trained(mode)
        other = self.make(mode, random_base(23, 6, seed=5), seed=6)
        other.load_state_dict(adapter.state_dict())
        assert torch.equal(other.merge(), adapter.merge())

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 6), (2, 2), (3, 1)])
    def test_tiny_tables(self, mode: Mode, n: int, k: int, tmp_path: Path) -> None:
        base = random_base(n, k)
        if mode == "peft":
            assert torch.equal(self.make(mode, base).merge(), base)
        adapter = self.trained(mode, base)
        adapter(torch.arange(n)).sum().backward()
        save(adapter, tmp_path)
        assert torch.equal(load(tmp_path, base).merge(), adapter.merge())

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("style", STYLES)
    def test_backends_agree(self, mode: Mode, style: str) -> None:
        loss, training = STYLES[style]
        toy = self._toy(mode, loss, refresh=2)
        assert_backends_agree(toy.with_training(**training))

    @pytest.mark.parametrize("mode", MODES)
    def test_learns_what_there_is_to_learn(self, mode: Mode) -> None:
        toy = self._toy(mode, LEAST_SQUARES, refresh=15)
        assert quality(toy, 0) < 0.3, "the untrained adapter must know nothing"
        floor = self.ndcg_floor if mode == "peft" else self.compress_floor
        assert quality(toy, 60) >= floor

    def _toy(self, mode: Mode, loss: Chosen, refresh: int) -> Toy:
        training = {
            "rounds": 60,
            "cohort": 0.5,
            "warmup_rounds": 0,
            "refresh_every": refresh if mode == "peft" else 0,
            "server_optimizer": {"lr": 0.03},
        }
        return Toy(adapter=(self.kind, {**self.config, "mode": mode}), loss=loss, training=training)
