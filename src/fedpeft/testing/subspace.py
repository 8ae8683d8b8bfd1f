"""What every adapter must do with its subspace: codes or seeds that clients download."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from fedpeft.adapters import Mode
from fedpeft.errors import ArtifactError
from fedpeft.testing.drop_in import MODES, DropInContract
from fedpeft.testing.toy import random_base

RUBBISH = ("empty", "cut", "longer", "text", "ones")


class SubspaceContract(DropInContract):
    """The part of `AdapterContract` about bytes; see there.

    Attributes
    ----------
    compresses
        Whether a payload in `compress` mode is much smaller than the table it stands for.
    """

    compresses: ClassVar[bool] = True

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(("n", "k"), [(23, 6), (1, 1), (300, 2)])
    def test_subspace_travels_as_bytes(self, mode: Mode, n: int, k: int) -> None:
        base, settings = random_base(n, k), self.settings(mode)
        sender, receiver = self.trained(mode, base), self.make(mode, base, seed=6)
        frozen = sender.frozen()
        data = settings.pack_subspace(frozen)
        assert len(data) == sender.subspace_bytes
        found = settings.unpack_subspace(data, n)
        assert found.keys() == frozen.keys()
        for name, tensor in frozen.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor), name
        receiver.load_frozen(found)
        receiver.load_payload(sender.payload())
        assert torch.equal(receiver.merge(), sender.merge())
        assert settings.pack_subspace(receiver.frozen()) == data

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("spoil", RUBBISH)
    def test_a_subspace_of_rubbish_is_refused(self, mode: Mode, spoil: str) -> None:
        """Be it when it is unpacked, or when the adapter is to take it over."""
        adapter, settings = self.trained(mode), self.settings(mode)
        before = adapter.merge()
        good = settings.pack_subspace(adapter.frozen())
        if not good and spoil in ("empty", "cut"):
            pytest.skip("its subspace is empty")
        bad = {
            "empty": b"",
            "cut": good[:-1],
            "longer": good + b"\0",
            "text": b"no subspace at all, and of an odd length",
            "ones": b"\xff" * (len(good) + 9),
        }[spoil]
        with pytest.raises(ArtifactError) as caught:
            adapter.load_frozen(settings.unpack_subspace(bad, 23))
        assert len(str(caught.value).splitlines()) == 1
        assert torch.equal(adapter.merge(), before)

    def test_compressed_payload_is_a_fraction_of_the_table(self) -> None:
        if not self.compresses:
            pytest.skip(f"{self.kind} sends the whole table")
        n, k = 1500, 32
        assert 3 * self.make("compress", random_base(n, k)).payload_values <= n * k
