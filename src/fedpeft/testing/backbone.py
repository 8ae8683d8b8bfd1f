"""What every backbone must do."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from fedpeft.adapters import AdapterConfig, ItemContext, adapters, build
from fedpeft.backbones import Backbone, HistoryBackbone, backbones
from fedpeft.config import parse
from fedpeft.protocol.messages import (
    Upload,
)
from fedpeft.seeding import torch_rng
from fedpeft.streams import FirstDraws
from fedpeft.testing.adapter import EPS, SHAPES
from fedpeft.testing.backends import assert_backends_agree
from fedpeft.testing.toy import BPR, GRADIENT, PAPER, Chosen, Toy, quality, random_base
from fedpeft.training.task import payload_parameters

ADAPTERS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"rank": 4},
    "hash": {"rows": 32, "pooling": "senet"},
    "rq": {"levels": 2, "codes": 8},
}


class BackboneContract:
    """Subclass it, name a registered backbone, and pytest checks it.

    Attributes
    ----------
    kind
        The registered name.
    config
        Settings that differ from the backbone's defaults.
    loss
        Registered name and settings of the loss it is trained with.
    ndcg_floor
        NDCG@10 to reach on `block_split` with the full table after 60 rounds of `training`; chance
        is .15, a perfect model has 1.  Leave a margin of .1: rounding differs between processors.
    training
        Training settings that differ from local-first training with a server optimiser.
    """

    kind: ClassVar[str]
    config: ClassVar[Mapping[str, Any]] = {}
    loss: ClassVar[Chosen] = BPR
    ndcg_floor: ClassVar[float]
    training: ClassVar[Mapping[str, Any]] = {}

    def make(self, adapter: str = "full") -> Backbone:
        """Return one client's model over 23 items of 6 dimensions, as a new client has it."""
        part = backbones.get(self.kind)
        settings = parse(adapters.get(adapter).config, ADAPTERS[adapter], "adapter")
        assert isinstance(settings, AdapterConfig)
        item = build(adapter, settings, ItemContext(random_base(23, 6), seed=1))
        model = part.build(parse(part.config, self.config, "backbone"), item)
        for name, tensor in model.initial_shared(torch_rng(1, "contract")).items():
            model.get_parameter(name).data.copy_(tensor)
        for name, tensor in model.initial_local(FirstDraws(0, np.arange(1))).items():
            model.get_parameter(name).data.copy_(tensor[0])
        return model

    def test_declares_its_parameters(self) -> None:
        model = self.make()
        own = dict(model.named_parameters())
        assert set(model.local) <= set(own)
        assert not any(name.startswith("item.") for name in model.local)
        item = {name for name in own if name.startswith("item.")}
        assert set(model.shared()) == set(own) - item - set(model.local)
        assert set(payload_parameters(model)) == item | set(model.shared())

    @pytest.mark.parametrize("shape", SHAPES)
    def test_scores_have_the_shape_of_the_ids(self, shape: tuple[int, ...]) -> None:
        model = self.make()
        ids = torch.randint(23, shape, generator=torch.Generator().manual_seed(0))
        scores = model(ids)
        assert scores.shape == ids.shape
        torch.testing.assert_close(scores, model.score(model.item(ids)))

    def test_items_do_not_see_each_other(self) -> None:
        model = self.make()
        alone = torch.stack([model(torch.tensor(item)) for item in range(23)])
        torch.testing.assert_close(model(torch.arange(23)), alone)

    def test_user_vector_is_the_whole_model_where_there_is_one(self) -> None:
        model = self.make()
        vectors = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
        if model.user_vector is None:
            # a network of ReLUs without biases is linear along a ray, but not through zero
            mirrored = model.score(-vectors)
            assert not torch.allclose(mirrored, -model.score(vectors)), "declare a user_vector"
        else:
            assert model.user_vector in model.local
            user = model.get_parameter(model.user_vector)
            torch.testing.assert_close(model.score(vectors), vectors @ user)

    def test_initial_shared_parameters_come_from_the_given_stream(self) -> None:
        model = self.make()
        first = model.initial_shared(torch_rng(0, "contract"))
        torch.manual_seed(7)  # torch's own stream must not matter
        again = model.initial_shared(torch_rng(0, "contract"))
        assert set(first) <= set(model.shared())
        for name, tensor in first.items():
            assert tensor.shape == model.get_parameter(name).shape
            assert torch.equal(tensor, again[name])

    def test_encoding_is_the_same_for_all_clients(self) -> None:
        model = self.make()
        vectors = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
        precomputed = model.precompute(vectors)
        torch.testing.assert_close(model.score_precomputed(precomputed), model.score(vectors))
        for name in model.local:
            model.get_parameter(name).data.add_(1.0)
        assert torch.equal(model.precompute(vectors), precomputed)

    @pytest.mark.parametrize("clients", [0, 1, 5])
    def test_initial_local_parameters(self, clients: int) -> None:
        model = self.make()
        first = model.initial_local(FirstDraws(0, np.arange(clients)))
        assert set(first) == set(model.local)
        for name, tensor in first.items():
            assert tensor.shape == (clients, *model.get_parameter(name).shape)
        for client in range(clients):  # alone, as on its own device
            alone = model.initial_local(FirstDraws(0, np.array([client])))
            for name, tensor in alone.items():
                assert torch.equal(tensor[0], first[name][client])

    def test_gradients_reach_every_parameter(self) -> None:
        model = self.make()
        weights = torch.randn(23, generator=torch.Generator().manual_seed(0))
        (model(torch.arange(23)) * weights).sum().backward()
        for name, tensor in model.named_parameters():
            assert tensor.grad is not None, name
            assert tensor.grad.abs().max() > 0, name

    def test_deep_copy_is_independent(self) -> None:
        model = self.make()
        before = model(torch.arange(23)).detach()
        for tensor in copy.deepcopy(model).parameters():
            tensor.data.zero_()
        assert torch.equal(model(torch.arange(23)), before)

    def test_local_parameters_never_travel(self) -> None:
        """An upload is exactly as long as the item embedding's and the shared values are."""
        simulation = self._toy("full").simulation("sequential")
        backbone = simulation.replica.backbone
        travels = payload_parameters(backbone)
        assert not set(travels) & {*backbone.local, *backbone.kept}
        values = sum(parameter.numel() for parameter in travels.values())
        entry = simulation.step().entry
        assert entry.upload == entry.clients * Upload.size(4 * values)

    def test_a_train_item_is_scored_in_the_context_of_the_others(self) -> None:
        model = self._with_history()
        ids, weight = model.history_ids, model.history_weight
        everything = model(torch.arange(23))
        for place, item in enumerate(ids.tolist()):
            others = torch.arange(len(ids)) != place
            model.remember(ids[others], weight[others])
            alone = model.score(model.item(torch.tensor(item)))
            torch.testing.assert_close(everything[item], alone, rtol=1e-4, atol=1e-5)
        model.remember(ids, weight)
        new = torch.tensor([item for item in range(23) if item not in ids])
        torch.testing.assert_close(everything[new], model.score(model.item(new)))

    def test_a_history_changes_scores_and_its_padding_does_not(self) -> None:
        model = self._with_history()
        vectors, weight = model.item(model.history_ids), model.history_weight
        short = model.context(vectors, weight)
        longer = torch.cat([vectors, vectors[:1].expand(3, -1)])
        padded = model.context(longer, torch.cat([weight, torch.zeros(3)]))
        torch.testing.assert_close(padded.whole, short.whole)
        torch.testing.assert_close(padded.others[: len(vectors)], short.others)
        assert padded.others.isfinite().all()
        before = model(torch.arange(23))
        model.remember(model.history_ids[:1], weight[:1])
        assert not torch.allclose(model(torch.arange(23)), before)

    def test_a_history_is_data_and_never_travels(self) -> None:
        model = self._with_history()
        assert not any("history" in name for name in model.state_dict())
        assert not set(model.kept) & {name for name, _ in model.named_parameters()}
        assert not set(model.kept) & set(payload_parameters(model))

    @pytest.mark.parametrize("adapter", ADAPTERS)
    def test_backends_agree(self, adapter: str) -> None:
        training = {"local_optimizer": EPS, "server_optimizer": EPS}
        assert_backends_agree(self._toy(adapter).with_training(**training))

    def test_backends_agree_on_federated_averaging(self) -> None:
        training = {**PAPER, "local_optimizer": EPS, "payload_optimizer": EPS}
        assert_backends_agree(self._toy("lora").with_training(**training))

    def test_learns_what_there_is_to_learn(self) -> None:
        toy = self._toy("full")
        assert quality(toy, 0) < 0.3, "the untrained backbone must know nothing"
        assert quality(toy, 60) >= self.ndcg_floor

    def _with_history(self) -> HistoryBackbone:
        """Return a client's model that remembers five items."""
        model = self.make()
        if not isinstance(model, HistoryBackbone):
            pytest.skip("this backbone sees no history")
        model.remember(torch.tensor([3, 17, 8, 21, 0]), torch.tensor([1.0, 0.5, 0.8, 0.1, 0.3]))
        return model

    def _toy(self, adapter: str) -> Toy:
        return Toy(
            adapter=(adapter, ADAPTERS[adapter]),
            backbone=(self.kind, self.config),
            loss=self.loss,
            training={
                "rounds": 60,
                "cohort": 0.5,
                "warmup_rounds": 0,
                "refresh_every": 0,
                "server_optimizer": {"lr": 0.03},
                **GRADIENT,
                **self.training,
            },
        )
