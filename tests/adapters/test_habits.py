"""What torch users do with an embedding, done with an adapter in its place."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fedpeft
from fedpeft.adapters import ItemContext, build
from fedpeft.adapters.lora import LoRAConfig
from fedpeft.errors import InputError

from .habits import (
    COMPUTED,
    KINDS,
    SEQUENCES,
    TARGETS,
    K,
    N,
    Sequential,
    swapped,
    train,
)

# a tied softmax


@pytest.mark.parametrize("kind", KINDS)
def test_tied_softmax_trains_the_payload_from_both_ends(kind: str) -> None:
    """The gradient is that of the chain rule through a plain table."""
    model, adapter = swapped(kind)
    model(SEQUENCES)
    with torch.no_grad():
        for tensor in adapter.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
    F.cross_entropy(model(SEQUENCES), TARGETS).backward()
    found = {name: tensor.grad.clone() for name, tensor in adapter.named_parameters()}
    adapter.zero_grad()

    plain = copy.deepcopy(model)
    fedpeft.merge_and_unload(plain)
    plain.items.padding_idx = None  # with padding, torch drops only what comes by a look-up
    F.cross_entropy(plain(SEQUENCES), TARGETS).backward()
    gradient = plain.items.weight.grad.clone()
    gradient[0] = 0
    adapter(torch.arange(N)).backward(gradient)
    for name, tensor in adapter.named_parameters():
        torch.testing.assert_close(found[name], tensor.grad, msg=name)


def test_full_table_with_a_tied_softmax_trains_as_an_embedding() -> None:
    torch.manual_seed(0)
    plain = Sequential()
    plain.items = nn.Embedding(N, K)
    model = copy.deepcopy(plain)
    fedpeft.replace_embedding(model, "items", kind="full")
    for one in (plain, model):
        train(one, torch.optim.AdamW(one.parameters(), lr=0.05))
    assert torch.equal(model.items.weight, plain.items.weight)


def test_two_embeddings_that_share_a_table_get_one_adapter() -> None:
    model = nn.ModuleDict({"source": nn.Embedding(N, K), "target": nn.Embedding(N, K)})
    model["target"].weight = model["source"].weight
    adapter = fedpeft.replace_embedding(model, "target", rank=2)
    assert model["source"] is model["target"] is adapter
    fedpeft.merge_and_unload(model)
    assert model["source"].weight is model["target"].weight


def test_tying_a_layer_to_a_computed_table_is_an_error() -> None:
    model, _ = swapped()
    layer = nn.Linear(K, N)
    with pytest.raises(TypeError, match="parameter 'weight'"):
        layer.weight = model.items.weight


# options of nn.Embedding


@pytest.mark.parametrize("option", ["scale_grad_by_freq", "sparse"])
@pytest.mark.parametrize("padding", [None, 0])
def test_options_of_the_embedding_train_as_they_did(option: str, padding: int | None) -> None:
    """The full table is the table itself, so it must go where the embedding goes."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Embedding(N, K, padding_idx=padding, **{option: True}), nn.Tanh())
    model = copy.deepcopy(plain)
    fedpeft.replace_embedding(model, "0", kind="full")
    ids = torch.tensor([[3, 3, 3, 0], [7, 3, 0, 1]])
    for one in (plain, model):
        optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            one(ids).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(model[0].merge(), plain[0].weight.detach())
    fedpeft.merge_and_unload(model)
    assert model[0].scale_grad_by_freq == (option == "scale_grad_by_freq")


def test_sparse_adam_is_told_to_be_adam() -> None:
    model = nn.Sequential(nn.Embedding(N, K, sparse=True))
    fedpeft.replace_embedding(model, "0", kind="hash", rows=8)
    optimizer = torch.optim.SparseAdam(model.parameters())
    model(SEQUENCES).sum().backward()
    with pytest.raises(RuntimeError, match="consider Adam instead"):
        optimizer.step()


@pytest.mark.parametrize("kind", COMPUTED)
def test_weight_decay_draws_the_payload_to_the_base(kind: str) -> None:
    """Not the item vectors to zero, as it does with a table."""
    _, adapter = swapped(kind)
    adapter(torch.tensor([1]))
    with torch.no_grad():
        for tensor in adapter.parameters():
            tensor.copy_(torch.randn_like(tensor))
    assert adapter.base is not None
    away = (adapter.merge() - adapter.base).norm()
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        (0 * adapter(torch.arange(N))).sum().backward()
        optimizer.step()
    assert (adapter.merge() - adapter.base).norm() < 0.5 * away


def test_freezing_the_adapter_freezes_the_table() -> None:
    model, adapter = swapped()
    adapter.requires_grad_(False)
    before = adapter.merge()
    train(model, torch.optim.Adam(model.parameters(), lr=0.1))
    assert torch.equal(adapter.merge(), before)


# moving, casting, copying


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_cast_after_the_swap_trains(kind: str, dtype: torch.dtype) -> None:
    model, adapter = swapped(kind)
    expected = model(SEQUENCES)
    model.to(dtype)
    found = model(SEQUENCES)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)
    before = adapter.merge()
    train(model, torch.optim.SGD(model.parameters(), lr=1.0))
    assert not torch.equal(adapter.merge(), before)
    again = copy.deepcopy(model)
    assert torch.equal(again(SEQUENCES), model(SEQUENCES))
    assert torch.equal(pickle.loads(pickle.dumps(model))(SEQUENCES), model(SEQUENCES))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_on_the_gpu_trains_as_on_the_cpu(kind: str) -> None:
    here, _ = swapped(kind)
    there = copy.deepcopy(here).cuda()
    sequences, targets = SEQUENCES.cuda(), TARGETS.cuda()
    train(here, torch.optim.SGD(here.parameters(), lr=0.5))
    optimizer = torch.optim.SGD(there.parameters(), lr=0.5)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(there(sequences), targets).backward()
        optimizer.step()
    torch.testing.assert_close(there(sequences).cpu(), here(SEQUENCES), atol=1e-4, rtol=1e-3)
    with torch.no_grad(), pytest.raises(InputError if kind != "full" else IndexError):
        there.items.weight[10**6] = 0


def test_an_optimiser_made_before_the_swap_holds_the_old_table() -> None:
    """So the guide says; there is nothing in torch to notice it by."""
    torch.manual_seed(0)
    model = Sequential()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    adapter = fedpeft.replace_embedding(model, "items", rank=2)
    before = adapter.merge()
    train(model, optimizer)
    assert torch.equal(adapter.merge(), before)


def test_an_adapter_from_build_says_what_it_belongs_to() -> None:
    base = torch.randn(9, 4)
    one, two = (build("lora", LoRAConfig(), ItemContext(base, seed)) for seed in (0, 1))
    assert one.mark == two.mark  # A and B both travel: nothing of LoRA is frozen but the base
    assert build("lora", LoRAConfig(), ItemContext(base + 1, 0)).mark != one.mark
