"""What a federated loop sends in place of `state_dict`."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fedpeft
from fedpeft.adapters import ItemEmbedding
from fedpeft.errors import ArtifactError, InputError

KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"rank": 2},
    "hash": {"rows": 8},
    "rq": {"levels": 2, "codes": 4},
}
IDS = torch.tensor([[1, 2], [3, 4]])


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users, self.items = nn.Embedding(12, 6), nn.Embedding(30, 6)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, ids: Tensor) -> Tensor:
        vectors: Tensor = self.users(ids[:, 0]) * self.items(ids[:, 1])
        return self.norm(vectors).sum(-1)


def made(kind: str = "lora", seed: int = 0, **settings: Any) -> tuple[Model, ItemEmbedding]:
    model = Model()
    settings = {**KINDS[kind], **settings}
    return model, fedpeft.replace_embedding(model, "items", kind=kind, seed=seed, **settings)


def train(model: nn.Module, steps: int = 2) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        model(IDS).square().sum().backward()
        optimizer.step()


def size(state: dict[str, Tensor]) -> int:
    """Return the bytes of a message with these tensors."""
    file = io.BytesIO()
    torch.save(state, file)
    return len(file.getvalue())


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_that_sends_states_sends_the_payload_and_learns_alike(kind: str) -> None:
    """Flower's quickstart and its likes: state up, mean of states down."""

    def run(send: Any, load: Any) -> tuple[Model, int]:
        server, _ = made(kind)
        sent = 0
        for _ in range(2):
            states = []
            for steps in (
                1,
                2,
            ):  # a mean of three equal values may differ from them in the last bit
                client, _ = made(kind)  # made anew on each device, from the same seed
                load(client, send(server))
                train(client, steps)
                states.append(send(client))
                sent += size(states[-1])
            mean = {
                key: torch.stack([state[key] for state in states]).mean(0)
                if first.is_floating_point()
                else first
                for key, first in states[0].items()
            }
            load(server, mean)
        return server, sent

    whole, bytes_whole = run(lambda m: copy.deepcopy(m.state_dict()), nn.Module.load_state_dict)
    short, bytes_short = run(fedpeft.payload_state_dict, fedpeft.load_payload_state_dict)
    for one, other in zip(short.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(short.norm.running_mean, whole.norm.running_mean)
    if kind != "full":
        assert bytes_short < bytes_whole - 3 * 30 * 6 * 4


def test_a_mean_of_hash_functions_is_refused_with_the_way_out() -> None:
    """The loop of many tutorials averages whole numbers, too; float32 rounds these."""
    model, adapter = made("hash")
    states = [copy.deepcopy(model.state_dict()) for _ in range(3)]
    mean = {key: sum(state[key] for state in states) / 3 for key in states[0]}
    before = adapter.merge()
    with pytest.raises(ArtifactError, match=r"items\.coefficients .* send payload_state_dict"):
        model.load_state_dict(mean)
    assert torch.equal(adapter.merge(), before)
    codes, _ = made("rq")
    state = codes.state_dict()
    codes.load_state_dict({key: tensor * 3 / 3 for key, tensor in state.items()})  # exact


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_copies(kind: str) -> None:
    model, adapter = made(kind)
    state = fedpeft.payload_state_dict(model)
    own = {f"items.{name}@{adapter.mark}" for name in adapter.payload()}
    rest = {name for name in model.state_dict() if not name.startswith("items.")}
    assert state.keys() == own | rest
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for tensor in state.values():
        tensor.zero_()
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_an_adapter_by_itself_and_one_in_two_places() -> None:
    alone = nn.Embedding(9, 4)
    adapter = fedpeft.replace_embedding(alone, "", rank=2)
    state = fedpeft.payload_state_dict(adapter)
    assert state.keys() == {f"A@{adapter.mark}", f"B@{adapter.mark}"}
    fedpeft.load_payload_state_dict(adapter, {n: t + 1 for n, t in state.items()})
    assert torch.equal(adapter.get_parameter("B"), torch.ones(2, 4))

    shared = nn.Embedding(9, 4)
    model = nn.ModuleDict({"a": shared, "b": shared, "rest": nn.Linear(2, 2)})
    fedpeft.replace_embedding(model, "b", rank=2)
    state = fedpeft.payload_state_dict(model)
    assert {name.partition("@")[0] for name in state} == {"a.A", "a.B", "rest.weight", "rest.bias"}
    fedpeft.load_payload_state_dict(model, state)


OTHERS: dict[str, dict[str, Any]] = {
    "seed of hash": {"kind": "hash", "seed": 1},
    "kind": {"kind": "rq", "levels": 1, "codes": 8},
    "mode": {"kind": "hash", "mode": "compress"},
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_payload_of_another_subspace_is_refused(other: str) -> None:
    sender, _ = made(**OTHERS[other])
    receiver, adapter = made("hash")
    before = adapter.merge()
    with pytest.raises(ArtifactError, match=r"items \(hash\): .* in another subspace"):
        fedpeft.load_payload_state_dict(receiver, fedpeft.payload_state_dict(sender))
    assert torch.equal(adapter.merge(), before)


def test_the_payload_of_another_base_is_refused_and_after_a_merge() -> None:
    sender, adapter = made("hash")
    receiver, other = made("hash")
    train(sender)
    state = fedpeft.payload_state_dict(sender)
    fedpeft.load_payload_state_dict(receiver, state)
    adapter.set_base(adapter.merge())  # a new version of the base
    with pytest.raises(ArtifactError, match="another base"):
        fedpeft.load_payload_state_dict(sender, state)
    other.set_base(other.merge())
    fedpeft.load_payload_state_dict(receiver, fedpeft.payload_state_dict(sender))
    assert torch.equal(other.merge(), adapter.merge())


def test_lora_of_another_seed_is_no_other_subspace() -> None:
    """Both factors travel, so where they began does not matter."""
    sender, adapter = made(seed=1)
    receiver, other = made()
    train(sender)
    fedpeft.load_payload_state_dict(receiver, fedpeft.payload_state_dict(sender))
    assert torch.equal(other.merge(), adapter.merge())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda state: state.pop("norm.weight"), "missing: norm.weight"),
        (lambda state: state.update(nobody=torch.zeros(1)), "unknown: nobody"),
        (
            lambda state: state.update({"norm.weight": torch.zeros(7)}),
            r"must have shape \(6,\), got \(7,\)",
        ),
        (lambda state: state.pop(next(n for n in state if ".A@" in n)), "tensors must be"),
        (lambda state: [state.pop(n) for n in list(state) if "@" in n], "tensors must be"),
        (
            lambda state: state.update({n: t * torch.inf for n, t in state.items() if "@" in n}),
            "NaN",
        ),
        (
            lambda state: state.update(
                {"items.A": state.pop(next(n for n in state if ".A@" in n))}
            ),
            r"'items\.A' does not say .* send payload_state_dict\(model\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_whole(spoil: Any, said: str) -> None:
    sender, _ = made()
    train(sender)
    state = fedpeft.payload_state_dict(sender)
    spoil(state)
    receiver, _ = made()
    before = copy.deepcopy(receiver.state_dict())
    with pytest.raises(ArtifactError, match=said):
        fedpeft.load_payload_state_dict(receiver, state)
    assert all(torch.equal(receiver.state_dict()[n], tensor) for n, tensor in before.items())


def test_a_client_keeps_what_it_does_not_send() -> None:
    sender, _ = made()
    train(sender)
    state = fedpeft.payload_state_dict(sender)
    del state["users.weight"]
    receiver, adapter = made()
    own = receiver.users.weight.detach().clone()
    fedpeft.load_payload_state_dict(receiver, state, strict=False)
    assert torch.equal(receiver.users.weight, own)
    assert torch.equal(adapter.merge(), sender.items.merge())


def test_a_model_without_an_adapter_has_no_payload() -> None:
    for call in (fedpeft.payload_state_dict, lambda m: fedpeft.load_payload_state_dict(m, {})):
        with pytest.raises(InputError, match="holds no adapter"):
            call(Model())


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_states_that_would_be_passed_over_are_refused_with_the_way_out(
    kind: str, strict: bool
) -> None:
    sender, receiver = made(kind)[0], made(kind)[0]
    with pytest.raises(ArtifactError, match="load it with load_payload_state_dict"):
        receiver.load_state_dict(fedpeft.payload_state_dict(sender), strict=strict)
    plain = Model().state_dict()
    if kind == "full" and strict:  # its table is called weight, and has no base
        receiver.load_state_dict({**receiver.state_dict(), "items.weight": plain["items.weight"]})
    elif kind != "full":
        with pytest.raises(ArtifactError, match=r"'items\.weight' is a plain item table"):
            receiver.load_state_dict(plain, strict=strict)


def test_arrays_are_loaded_as_tensors_are() -> None:
    sender, receiver = made()[0], made()[0]
    train(sender)
    state = fedpeft.payload_state_dict(sender)
    fedpeft.load_payload_state_dict(receiver, {n: t.numpy() for n, t in state.items()})
    found = fedpeft.payload_state_dict(receiver)
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
