"""Loops that initialise a model, before and after an adapter takes its place."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

import fedpeft
from fedpeft.errors import InputError, PayloadWarning

from .habits import (
    COMPUTED,
    KINDS,
    SEQUENCES,
    N,
    Sequential,
    swapped,
    train,
    uniform,
    xavier,
)


@pytest.mark.parametrize("loop", [xavier, uniform])
@pytest.mark.parametrize("kind", COMPUTED)
@pytest.mark.parametrize(
    "use",
    [
        lambda model: model(SEQUENCES),
        lambda model: model.items.weight,
        copy.deepcopy,
        pickle.dumps,
        lambda model: model.state_dict(),
        fedpeft.payload_state_dict,
        fedpeft.merge_and_unload,
    ],
    ids=["forward", "weight", "deepcopy", "pickle", "state_dict", "payload", "merge"],
)
def test_an_init_loop_after_the_swap_is_told_at_the_first_use(
    kind: str, loop: Callable[[nn.Module], None], use: Callable[[nn.Module], object]
) -> None:
    model, _ = swapped(kind)
    loop(model)
    with pytest.warns(PayloadWarning, match="up to .* off their base; .* before replace_embedding"):
        use(model)
    with warnings.catch_warnings():  # once
        warnings.simplefilter("error")
        model(SEQUENCES)


def test_an_init_loop_is_told_when_the_adapter_is_saved(tmp_path: Any) -> None:
    model, _ = swapped()
    xavier(model)
    with pytest.warns(PayloadWarning):
        fedpeft.save_pretrained(model, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_an_init_loop_before_the_swap_is_welcome(kind: str) -> None:
    torch.manual_seed(0)
    model = Sequential()
    xavier(model)
    with torch.no_grad():
        model.items.weight[0] = 0
    expected = model(SEQUENCES)
    fedpeft.replace_embedding(model, "items", kind=kind, **KINDS[kind])
    assert torch.equal(model(SEQUENCES), expected)


@pytest.mark.parametrize("kind", COMPUTED)
@pytest.mark.parametrize("embeddings", [False, True])
def test_an_init_loop_over_modules_passes_adapters_by(kind: str, embeddings: bool) -> None:
    model, adapter = swapped(kind)
    before = adapter.merge()

    def init(module: nn.Module) -> None:
        if isinstance(module, nn.Embedding if embeddings else nn.Linear):
            nn.init.normal_(module.weight)

    model.apply(init)
    assert torch.equal(model.items(torch.arange(N)), before)


@pytest.mark.parametrize("kind", COMPUTED)
def test_an_init_loop_over_everything_with_a_weight_is_refused(kind: str) -> None:
    model, adapter = swapped(kind)
    before = adapter.merge()
    with pytest.raises(InputError, match="set_base"):
        model.apply(lambda m: nn.init.normal_(m.weight) if hasattr(m, "weight") else None)
    assert torch.equal(adapter.merge(), before)


@pytest.mark.parametrize("mode", ["full", "compress"])
def test_an_adapter_that_is_the_table_may_be_initialised(mode: str) -> None:
    """There is no base that its vectors should equal; as with a plain embedding."""
    model, _ = swapped("full") if mode == "full" else swapped(mode="compress")
    xavier(model)
    assert model(SEQUENCES).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_averages_are_written_in_whatever_way(kind: str) -> None:
    """What a server does is no init loop: by then the payload was copied, sent or used."""
    for write in (
        lambda own, new: setattr(own, "data", new),
        lambda own, new: own.data.copy_(new),
        lambda own, new: own.detach().copy_(new),
    ):
        server, _ = swapped(kind)
        clients = [copy.deepcopy(server) for _ in range(2)]
        for seed, client in enumerate(clients):
            train(client, torch.optim.Adam(client.parameters(), lr=0.01 * (seed + 1)))
        for name, own in server.named_parameters():
            write(
                own, sum(dict(client.named_parameters())[name].detach() for client in clients) / 2
            )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert server(SEQUENCES).isfinite().all()


def test_a_received_payload_needs_no_use_before_it() -> None:
    sender, _ = swapped()
    train(sender, torch.optim.Adam(sender.parameters(), lr=0.05))
    expected = sender(SEQUENCES)
    for load in (
        lambda model: model.load_state_dict(sender.state_dict()),
        lambda model: fedpeft.load_payload_state_dict(model, fedpeft.payload_state_dict(sender)),
    ):
        receiver, _ = swapped()
        xavier(receiver)  # all of it is overwritten
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(receiver)
            assert torch.equal(receiver(SEQUENCES), expected)


def test_a_functional_call_before_the_first_use_is_no_init_loop() -> None:
    model, adapter = swapped()
    other = {f"items.{name}": t + 0.1 for name, t in adapter.named_parameters()}
    functional_call(model, {n: t.detach() for n, t in other.items()}, (SEQUENCES,))
    xavier(model)
    with pytest.warns(PayloadWarning):
        model(SEQUENCES)
