"""The server: merges that nobody notices, decay, schedules, momentum, and when to give up."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from fedpeft.adapters import ItemContext, adapters
from fedpeft.errors import ConfigError, RunError
from fedpeft.protocol.encodings import CODECS
from fedpeft.simulation import RunOptions
from fedpeft.simulation.update import Update
from fedpeft.testing import Toy, hand_split
from fedpeft.testing.toy import GRADIENT, PAPER
from fedpeft.training import TrainingConfig
from toys import ADAPTERS, SGD, everything, toy

LOSSLESS_AND_NOT = [*CODECS]


@pytest.mark.parametrize("encoding", LOSSLESS_AND_NOT)
@pytest.mark.parametrize("adapter", ["lora", "hash", "senet", "rq"])
def test_no_item_moves_at_a_merge(adapter: str, encoding: str) -> None:
    """Warm-up ends before round 2, merges come before rounds 4 and 6."""
    simulation = toy(adapter, warmup_rounds=2, refresh_every=2, encoding=encoding).simulation()
    begin, events = simulation.server.begin, []

    def watched(number: int) -> str | None:
        before = simulation.item_vectors()
        events.append(begin(number))
        assert torch.equal(simulation.item_vectors(), before)
        if events[-1]:
            assert torch.equal(simulation.server.item.base, before)
        return events[-1]

    simulation.server.begin = watched  # type: ignore[method-assign]
    for _ in range(7):
        before = simulation.item_vectors()
        simulation.step()
        assert not torch.equal(simulation.item_vectors(), before)
    assert events == [None, None, "warmup_end", None, "refresh", None, "refresh"]
    assert simulation.server.version == 3


@pytest.mark.parametrize("encoding", LOSSLESS_AND_NOT)
def test_a_client_can_do_the_fold_itself(encoding: str) -> None:
    """Old base + the merged payload as sent + the new subspace give what the server has."""
    simulation = toy("lora", refresh_every=3, encoding=encoding).simulation()
    server, codec = simulation.server, CODECS[encoding]()
    for _ in range(3):
        simulation.step()
    device = server.build(server.phase, server.version, server.item.base)
    data = codec.encode(server.item.payload())
    assert len(data) == server.prices.download
    shapes = {name: tensor.shape for name, tensor in device.payload().items()}
    device.load_payload(codec.decode(data, shapes))
    merged = server.build(server.phase, server.version + 1, device.merge())
    assert server.begin(3) == "refresh"
    for name, tensor in server.item.state_dict().items():
        assert torch.equal(merged.state_dict()[name], tensor), name


@pytest.mark.parametrize("adapter", ["lora", "hash", "rq"])
def test_every_refresh_opens_another_subspace(adapter: str) -> None:
    simulation = toy(adapter, refresh_every=1, rounds=4).simulation()
    seen = []
    for _ in range(4):
        simulation.step()
        item = simulation.server.item
        seen.append(item.get_parameter("A").detach() if adapter == "lora" else item.frozen())
    subspaces = [s if isinstance(s, torch.Tensor) else next(iter(s.values())) for s in seen]
    assert all(not torch.equal(a, b) for a, b in pairwise(subspaces))


def test_another_seed_is_another_run() -> None:
    run = toy("lora")
    one, two = run.simulation(), replace(run, seed=1).simulation()
    assert not torch.equal(one.server.item.get_parameter("A"), two.server.item.get_parameter("A"))
    assert not np.array_equal(
        np.sort(one.sampler.draw(0).users), np.sort(two.sampler.draw(0).users)
    )


def test_moments_and_residuals_start_anew_with_a_subspace() -> None:
    simulation = toy("lora", refresh_every=2, encoding="int8").simulation()
    for _ in range(2):
        simulation.step()
    assert simulation.server.feedback.residual
    simulation.server.begin(2)
    assert not simulation.server.feedback.residual
    assert not any(simulation.server.optimizer.state.values())
    simulation.step()
    steps = [state["step"].item() for state in simulation.server.optimizer.state.values()]
    assert steps == [1, 1]


def stepped(change: float, rounds: int, **training: Any) -> list[torch.Tensor]:
    """Feed the server the same update for some rounds; return the table after each."""
    server = toy("full", **training).simulation().server
    tables = [server.item.merge()]
    for number in range(rounds):
        update = Update({"item.weight": torch.full_like(tables[0], change)}, 0.0)
        server.apply(update, number)
        tables.append(server.item.merge())
    return tables


def test_sgd_with_rate_one_is_federated_averaging() -> None:
    before, after = stepped(0.25, 1, server_optimizer={"kind": "sgd", "lr": 1.0})
    torch.testing.assert_close(after, before + 0.25)


def test_momentum_by_hand() -> None:
    sgd = {"kind": "sgd", "lr": 0.5, "momentum": 0.9}
    tables = stepped(1.0, 3, server_optimizer=sgd)
    moved = [float((after - tables[0]).mean()) for after in tables[1:]]
    first, second, third = 1.0, 1.9, 1 + 0.9 * 1.9
    assert moved == pytest.approx(
        [0.5 * first, 0.5 * (first + second), 0.5 * (first + second + third)], rel=1e-5
    )


def test_adam_by_hand() -> None:
    adam = {"kind": "adam", "lr": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 0.5}
    tables = stepped(2.0, 2, server_optimizer=adam)
    moved = float((tables[2] - tables[0]).mean())
    assert moved == pytest.approx(2 * 0.1 * 2 / (2 + 0.5), rel=1e-5)  # unbiased moments: 2 and 4


def test_the_warm_up_may_have_an_optimiser_of_its_own() -> None:
    own = {"kind": "adam", "lr": 0.1, "eps": 0.5}
    run = toy("lora", warmup_rounds=2, warmup_optimizer=own, server_optimizer=SGD)
    server = run.simulation().server
    before = server.item.merge()
    server.apply(Update({"item.weight": torch.full_like(before, 2.0)}, 0.0), 0)
    torch.testing.assert_close(server.item.merge(), before + 0.1 * 2 / (2 + 0.5))
    server.begin(2)
    assert isinstance(server.optimizer, torch.optim.SGD)
    before = {name: p.detach().clone() for name, p in server.parameters().items()}
    server.apply(Update({name: torch.ones_like(p) for name, p in before.items()}, 0.0), 2)
    for name, tensor in server.parameters().items():
        torch.testing.assert_close(tensor, before[name] + SGD["lr"])


def test_the_warm_up_has_the_run_s_optimiser_unless_told_otherwise() -> None:
    server = toy("lora", warmup_rounds=2, server_optimizer=SGD).simulation().server
    assert isinstance(server.optimizer, torch.optim.SGD)
    own = {"kind": "adam", "lr": 0.1, "eps": 1e-8}
    sparse = toy("lora", warmup_rounds=2, warmup_optimizer=own).simulation().server
    sparse._density = 0.001
    sparse._prepare()
    assert sparse.optimizer.param_groups[0]["eps"] == 3e-3


def test_cosine_falls_to_a_tenth() -> None:
    tables = stepped(1.0, 8, server_optimizer={"kind": "sgd", "lr": 1.0}, server_schedule="cosine")
    rates = [float((after - before).mean()) for before, after in pairwise(tables)]
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * number / 8)) / 2 for number in range(8)]
    assert rates == pytest.approx(expected, rel=1e-4)
    assert rates[0] == pytest.approx(1)
    assert rates[4] == pytest.approx(0.55, rel=1e-4)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("mode", ["peft", "compress"])
def test_item_decay_is_the_gradient_of_half_the_squared_vectors(adapter: str, mode: str) -> None:
    simulation = toy(adapter, mode=mode, item_decay=0.3, server_optimizer=SGD).simulation()
    server = simulation.server
    with torch.no_grad():
        for tensor in server.parameters().values():
            tensor.add_(0.1)
    before = {name: p.detach().clone() for name, p in server.parameters().items()}
    density = 61 / (12 * 15)  # interactions of the toy
    penalty = 0.15 * density * server.item(torch.arange(15)).square().sum()
    grads = torch.autograd.grad(penalty, list(server.parameters().values()))
    still = Update({name: torch.zeros_like(p) for name, p in before.items()}, 0.0)
    server.apply(still, 0)
    for (name, tensor), grad in zip(server.parameters().items(), grads, strict=True):
        torch.testing.assert_close(tensor, before[name] - 0.5 * grad)
    assert all(tensor.grad is None for tensor in server.parameters().values())


@pytest.mark.parametrize(
    ("density", "settings", "eps"),
    [
        (0.0099, {}, 3e-3),
        (0.01, {}, 1e-8),
        (0.001, {"sparse_eps": 0.0}, 1e-8),
        (0.001, {"server_optimizer": {"eps": 0.5}}, 0.5),
    ],
)
def test_eps_is_large_on_sparse_data(density: float, settings: dict[str, Any], eps: float) -> None:
    settings = {"server_optimizer": {"eps": 1e-8}, **settings}
    server = toy("lora", **settings).simulation().server
    server._density = density
    server._prepare()
    assert {group["eps"] for group in server.optimizer.param_groups} == {eps}


@pytest.mark.parametrize(
    ("density", "clients", "setting", "decay"),
    [
        (0.05, 1000, None, 0.05 * 150 / 50**2),
        (0.001, 10_000, None, 0.001 * 0.5),  # at most .5
        (0.1, 1000, None, 0.0),  # each item is met often
        (0.0, 1000, None, 0.0),
        (0.05, 0, None, 0.0),
        (0.05, 1000, 0.2, 0.05 * 0.2),
        (0.05, 1000, 0.0, 0.0),
    ],
)
def test_decay_is_for_items_with_few_interactions(
    density: float, clients: int, setting: float | None, decay: float
) -> None:
    training = TrainingConfig(item_decay=setting)
    assert training.decay_at(density, clients) == pytest.approx(decay)


def test_decay_shrinks_the_table() -> None:
    sizes = []
    for decay in (0.0, 1.0):
        simulation = toy("full", item_decay=decay).simulation()
        for _ in range(8):
            simulation.step()
        sizes.append(float(simulation.item_vectors().norm()))
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("backend", ["sequential", "vmap", "fused"])
@pytest.mark.parametrize("loss", ["ials", "bpr"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_run_that_diverged_ends_with_a_reason(loss: str, backend: str, bad: float) -> None:
    training = GRADIENT if loss == "bpr" else {}
    simulation = toy("lora", loss, cohort=1.0, **training).simulation(backend)
    simulation.step()
    with torch.no_grad():
        simulation.server.item.get_parameter("B")[0, 0] = bad
    ledger = simulation.ledger.state()
    with pytest.raises(RunError, match="round 1") as caught:
        simulation.step()
    assert len(str(caught.value).splitlines()) == 1
    assert simulation.round == 1
    assert simulation.ledger.state() == ledger


def test_too_large_a_rate_is_told() -> None:
    simulation = toy("full", server_optimizer={"kind": "sgd", "lr": 1e30}).simulation()
    simulation.step()
    with pytest.raises(RunError, match=r"server_optimizer\.lr"):
        simulation.step()


@pytest.mark.parametrize("backend", ["vmap", "fused"])
def test_too_small_a_ridge_is_told(backend: str) -> None:
    """Two items cannot fix five dimensions; only the decay does."""
    training = {"rounds": 1, "warmup_rounds": 0, "cohort": 1.0, "local_decay": 1e-30}
    simulation = Toy(split=hand_split([[0], [1]], 2), training=training, dim=5).simulation(backend)
    with pytest.raises(RunError, match=r"training\.local_decay"):
        simulation.step()


def test_adapter_without_a_warm_up_starts_on_the_given_base() -> None:
    run = toy("lora")
    server = run.simulation().server
    assert server.phase == "adapt"
    assert server.version == 0
    warm = toy("lora", warmup_rounds=1).simulation().server
    assert warm.phase == "warmup"
    assert warm.item.kind == "full"
    assert torch.equal(warm.item.merge(), server.item.base)


def test_text_codes_reach_the_adapter_and_are_missed_when_absent() -> None:
    config = {"levels": 2, "codes": 4, "source": "text"}
    with pytest.raises(ConfigError, match="text"):
        Toy(adapter=("rq", config)).with_training(warmup_rounds=0, rounds=1).simulation()
    part = adapters.get("rq")
    codes = torch.arange(14).view(7, 2) % 4
    context = ItemContext(torch.zeros(7, 3), 0, lambda levels, size: codes)
    built = part.build(part.config(**config), context)
    assert torch.equal(built.get_buffer("codes"), codes + torch.tensor([0, 4]))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_folding_without_a_base_is_refused(adapter: str) -> None:
    """Every merge would throw away what was learned."""
    with pytest.raises(ConfigError, match=r"refresh_every = 3 .* 'compress'"):
        toy(adapter, mode="compress", refresh_every=3).simulation()


def test_unknown_device_is_refused() -> None:
    for device in ("tpu-of-dreams", "cuda:77"):
        with pytest.raises(ConfigError, match=device):
            RunOptions(device=device).torch_device()
    assert RunOptions(device="cpu").torch_device().type == "cpu"


def test_federated_averaging_moves_no_further_than_its_clients() -> None:
    simulation = toy("full", "bpr", cohort=1.0, **PAPER).simulation()
    before = everything(simulation)["payload.item.weight"]
    simulation.step()
    moved = (simulation.item_vectors() - before).abs().max()
    assert 0 < moved <= 2 * 0.02 * 1.001  # two Adam steps of at most lr each
