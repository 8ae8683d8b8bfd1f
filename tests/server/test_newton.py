"""Newton's method on the server: the step in closed form, and on what each backend hands it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedpeft.adapters import ItemContext, ItemEmbedding, adapters
from fedpeft.adapters.config import AdapterConfig
from fedpeft.config import parse
from fedpeft.errors import ConfigError
from fedpeft.protocol.statistics import MOMENT, MomentForm
from fedpeft.server.newton import Curvature, newton_step
from fedpeft.testing import assert_backends_agree
from toys import LINEAR, NEWTON, newton, toy


def item_of(adapter: str, n: int, k: int) -> ItemEmbedding:
    kind, settings = LINEAR[adapter]
    config = parse(adapters.get(kind).config, settings)
    assert isinstance(config, AdapterConfig)
    base = torch.randn(n, k, generator=torch.Generator().manual_seed(1))
    return adapters.get(kind).build(config, ItemContext(base, seed=3))


@pytest.mark.parametrize("backbone", ["fedmf", "fedpergnn"])
@pytest.mark.parametrize("adapter", LINEAR)
def test_backends_agree(adapter: str, backbone: str) -> None:
    run = replace(
        newton(
            adapter,
            server_optimizer={**NEWTON["server_optimizer"], "prior": 2.0, "prior_at": "base"},
        )
    )
    assert_backends_agree(replace(run, backbone=(backbone, {})), rounds=5)


@pytest.mark.parametrize("adapter", ["lora", "rq"])
def test_backends_agree_with_averages_of_statistics(adapter: str) -> None:
    settings = {**NEWTON["server_optimizer"], "momentum": 0.6}
    assert_backends_agree(newton(adapter, server_optimizer=settings), rounds=5)


@pytest.mark.parametrize("adapter", LINEAR)
@pytest.mark.parametrize("prior", [0.0, 0.3])
@pytest.mark.parametrize("whole", [False, True])
def test_step_solves_the_normal_equations_of_the_span(
    adapter: str, prior: float, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against one dense system over all values of the payload at once."""
    monkeypatch.setattr("fedpeft.server.newton._RIDGE", 1e-9)
    n, k = 13, 4
    item = item_of(adapter, n, k)
    rng = torch.Generator().manual_seed(0)
    (start,) = (tensor.detach() for tensor in item.parameters())
    table = torch.randn(n, k, generator=rng)
    ids = torch.arange(n)
    (name,) = (name for name, _ in item.named_parameters())

    def vectors(flat: Tensor) -> Tensor:
        return item.embed({name: flat.view(start.shape)}, ids).flatten()

    jacobian = torch.autograd.functional.jacobian(vectors, start.flatten())
    # as clients send it: what their items' vectors ask for, pulled through the adapter
    residual = (jacobian.T @ torch.randn(n * k, generator=rng)).view(start.shape)
    jacobian = jacobian.double()
    readers = torch.randn(9, k, generator=rng)
    moment = readers.T @ readers / 9
    anchor = torch.randn(n, k, generator=rng)
    settings = Curvature(unobserved=0.2, decay=0.1, prior=prior, weight=0.6)
    span = item.span()
    assert span is not None
    form = MomentForm(k) if whole else MomentForm.of(k, span.columns)
    sent = form.of_sum(moment)
    found = newton_step(item, table, anchor, residual, sent, form, settings)

    hessian = (moment + 0.1 * torch.eye(k)).double()
    curvature = 0.8 * torch.kron(torch.eye(n, dtype=torch.float64), hessian)
    curvature += prior * torch.eye(n * k, dtype=torch.float64)
    rest = 0.2 * table @ moment + 0.1 * 0.2 * table + prior * (table - anchor)
    right = residual.flatten().double() + jacobian.T @ rest.flatten().double()
    normal = jacobian.T @ curvature @ jacobian
    expected = torch.linalg.lstsq(normal, right.unsqueeze(1), driver="gelsd").solution.squeeze(1)
    moved = jacobian @ found.flatten().double()
    torch.testing.assert_close(moved, jacobian @ expected, rtol=0, atol=5e-3)
    assert float((jacobian @ expected).abs().max()) > 0.1


def test_a_few_rounds_do_more_than_those_of_a_first_order_server() -> None:
    def loss_after(rounds: int, **training: Any) -> float:
        simulation = toy(cohort=1.0, rounds=50, local_decay=0.01, **training).simulation()
        for _ in range(rounds - 1):
            simulation.step()
        return simulation.step().loss

    second = loss_after(4, server_optimizer={"kind": "newton", "lr": 1.0})
    for lr in (0.1, 0.3, 1.0):
        assert second < loss_after(4, server_optimizer={"kind": "sgd", "lr": lr})


@given(st.integers(1, 6), st.integers(0, 5), st.booleans())
def test_noise_makes_no_step_infinite(k: int, seed: int, full: bool) -> None:
    """Sums under noise may have a second moment that is not positive, or none at all."""
    item = item_of("full" if full else "hash", 7, k)
    rng = torch.Generator().manual_seed(seed)
    noisy = torch.randn(k * (k + 1) // 2, generator=rng) * seed
    (start,) = item.parameters()
    settings = Curvature(unobserved=0.1, decay=0.01, prior=0.0, weight=0.2)
    table = torch.randn(7, k, generator=rng)
    residual = torch.randn(start.shape, generator=rng)
    step = newton_step(item, table, None, residual, noisy, MomentForm(k), settings)
    assert bool(step.isfinite().all())


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 5))
def test_forms_of_moments_say_the_same(k: int, rank: int, clients: int) -> None:
    readers, columns = torch.randn(clients, k), torch.randn(rank, k) if rank else None
    form = MomentForm.of(k, columns)
    moment = readers.T @ readers
    torch.testing.assert_close(form.of_sum(moment), form.of_readers(readers).sum(0))
    assert form.of_readers(readers).shape == (clients, form.size)
    assert form.size <= k * (k + 1) // 2
    expected = moment if form.columns is None else moment @ form.columns.T
    torch.testing.assert_close(form.decode(form.of_sum(moment)), expected)
    assert (form.columns is None) == (columns is None or rank * 2 >= k + 1)


def test_moments_of_readers_outlive_a_merge_and_residuals_do_not() -> None:
    settings = {**NEWTON["server_optimizer"], "momentum": 0.5}
    simulation = newton("lora", server_optimizer=settings, warmup_rounds=0).simulation()
    simulation.step()
    assert set(simulation.state.moments) == {MOMENT, "item.A"}
    simulation.step()
    state, event = simulation.server.begin(simulation.state)
    assert event == "refresh"
    assert set(state.moments) == {MOMENT}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"payload_steps": 2}, "payload_steps = 1"),
        ({"item_decay": 0.1}, "has no item_decay"),
        ({"warmup_rounds": 1, "warmup_optimizer": {"lr": 0.1}}, "leave training.warmup_opt"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        newton("lora", **changes).simulation()


def test_adapters_that_are_not_linear_in_one_tensor_are_refused() -> None:
    for adapter in ("senet", "lora"):
        with pytest.raises(ConfigError, match="linear in one tensor"):
            toy(adapter, **NEWTON).simulation()
