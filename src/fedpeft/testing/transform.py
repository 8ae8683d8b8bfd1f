"""What every transform must do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from fedpeft.adapters import ItemContext, build
from fedpeft.adapters.lora import LoRAConfig
from fedpeft.config import parse
from fedpeft.testing.backends import assert_backends_agree
from fedpeft.testing.toy import BPR, LEAST_SQUARES, PAPER, Chosen, Toy, random_base
from fedpeft.transforms import UpdateTransform, transforms

USERS = torch.tensor([4, 0, 7])
RUNS: dict[str, tuple[Chosen, Chosen, Mapping[str, Any]]] = {
    "full table": (("full", {}), LEAST_SQUARES, {}),
    "LoRA": (("lora", {"rank": 2}), BPR, PAPER),
}


class TransformContract:
    """Subclass it, name a registered transform, and pytest checks it.

    Attributes
    ----------
    kind
        The registered name.
    config
        Settings that differ from the transform's defaults.
    """

    kind: ClassVar[str]
    config: ClassVar[Mapping[str, Any]] = {}

    def make(self, round_number: int = 0) -> UpdateTransform:
        """Return the transform at the start of a round, with seed 0."""
        part = transforms.get(self.kind)
        config = parse(part.config, self.config, self.kind)
        transform = part.build(config, 0)
        item = build("lora", LoRAConfig(rank=2), ItemContext(random_base(5, 3), seed=0))
        transform.begin(round_number, item)
        return transform

    def changes(self) -> dict[str, Tensor]:
        """Return the stacked changes of three clients; the last one has not moved at all."""
        rng = torch.Generator().manual_seed(0)
        shapes = {"item.A": (3, 5, 2), "item.B": (3, 2, 3), "bias": (3,)}
        changes = {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}
        for tensor in changes.values():
            tensor[-1] = 0
        return changes

    def test_keeps_names_and_shapes_and_stays_finite(self) -> None:
        given, transform = self.changes(), self.make()
        sent = transform.on_user(given, USERS)
        assert {n: t.shape for n, t in sent.items()} == {n: t.shape for n, t in given.items()}
        assert all(tensor.isfinite().all() for tensor in sent.values())

    def test_keeps_its_own_bound(self) -> None:
        transform = self.make()
        if transform.bound is None:
            pytest.skip("it bounds nothing")
        far = {name: 1e3 * tensor for name, tensor in self.changes().items()}
        sent = transform.on_user(far, USERS)
        squares = [t.unsqueeze(-1).flatten(1).square().sum(1) for t in sent.values()]
        norms = torch.stack(squares).sum(0).sqrt()
        assert bool((norms <= transform.bound * (1 + 1e-5)).all())

    def test_does_not_write_into_what_it_gets(self) -> None:
        given = self.changes()
        self.make().on_user(given, USERS)
        assert all(torch.equal(tensor, given[name]) for name, tensor in self.changes().items())

    def test_treats_each_client_on_its_own(self) -> None:
        together = self.make().on_user(self.changes(), USERS)
        for row in range(3):
            own = {name: tensor[row : row + 1] for name, tensor in self.changes().items()}
            alone = self.make().on_user(own, USERS[row : row + 1])
            for name, tensor in alone.items():
                torch.testing.assert_close(tensor[0], together[name][row])

    def test_remembers_nothing_from_round_to_round(self) -> None:
        """A resumed run starts with a new transform."""
        used = self.make(round_number=3)
        used.on_user(self.changes(), USERS)
        item = build("lora", LoRAConfig(rank=2), ItemContext(random_base(5, 3), seed=0))
        used.begin(4, item)
        again = used.on_user(self.changes(), USERS)
        fresh = self.make(round_number=4).on_user(self.changes(), USERS)
        assert all(torch.equal(tensor, fresh[name]) for name, tensor in again.items())

    @pytest.mark.parametrize("run", RUNS)
    def test_backends_agree(self, run: str) -> None:
        adapter, loss, training = RUNS[run]
        settings = {
            "rounds": 8,
            "cohort": 0.5,
            "warmup_rounds": 0,
            "server_optimizer": {"kind": "sgd", "lr": 0.5},
            "transforms": {self.kind: dict(self.config)},
        }
        toy = Toy(adapter=adapter, loss=loss, training={**training, **settings})
        assert toy.simulation().backend == "vmap"
        assert_backends_agree(toy, rounds=2)
