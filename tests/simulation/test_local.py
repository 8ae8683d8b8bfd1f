"""The local phase: exact ridge solutions, gradient steps, and what a device scores with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.client.local import client_loss
from fedpeft.data import Histories
from fedpeft.errors import ConfigError
from fedpeft.simulation import Simulation
from fedpeft.testing import Toy, hand_split
from fedpeft.testing.toy import GRADIENT, LEAST_SQUARES
from toys import made_split, toy

from .rounds import device, run_round

UNOBSERVED, DECAY = LEAST_SQUARES[1]["unobserved_weight"], 0.1


def ridge(table: np.ndarray, items: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the user vector as an ordinary least-squares problem, in float64.

    One row sqrt(w) v = sqrt(w) per train item, one row sqrt(a0) v = 0 per item of the catalogue,
    and sqrt(decay) I u = 0.
    """
    root = np.sqrt(weight)[:, None]
    k = table.shape[1]
    rows = [root * table[items], np.sqrt(UNOBSERVED) * table, np.sqrt(DECAY) * np.eye(k)]
    right = np.concatenate([root[:, 0], np.zeros(len(table) + k)])
    return np.linalg.lstsq(np.concatenate(rows), right, rcond=None)[0]


def age_weights(length: int, half_life: float, floor: float) -> np.ndarray:
    """Return the documented weights of a history, oldest first."""
    if not half_life:
        return np.ones(length)
    ages = np.arange(length)[::-1]
    return floor + (1 - floor) * 0.5 ** (ages / half_life)


@pytest.mark.parametrize("backend", ["sequential", "vmap", "fused"])
@pytest.mark.parametrize("half_life", [0.0, 1.5])
def test_every_client_solves_its_own_ridge_regression(backend: str, half_life: float) -> None:
    recency = {"half_life": half_life, "floor": 0.2}
    run = toy("lora", cohort=1.0, local_decay=DECAY, recency=recency)
    simulation = run.simulation(backend)
    table = simulation.item_vectors().double().numpy()
    simulation.step()
    for user in range(12):
        items = run.split.train.of(user)
        weight = age_weights(len(items), half_life, 0.2)
        expected = ridge(table, items, weight)
        np.testing.assert_allclose(
            simulation.population.local["user"][user].numpy(), expected, rtol=2e-4, atol=2e-5
        )


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    k=st.integers(1, 5),
    backend=st.sampled_from(["sequential", "vmap", "fused"]),
)
def test_solution_has_no_gradient_left(lengths: list[int], k: int, backend: str) -> None:
    run = Toy(
        split=made_split(lengths, 6),
        adapter=("lora", {"rank": 2}),
        training={"cohort": 1.0, "warmup_rounds": 0, "rounds": 9, "local_decay": DECAY},
        dim=k,
    )
    simulation = run.simulation(backend)
    # the payload moves at the end of the round; look at the clients before
    run_round(simulation)
    for user in range(len(lengths)):
        model = device(simulation, user)
        items = torch.from_numpy(run.split.train.of(user))[:, None]
        loss = client_loss(simulation.task, model, items, torch.ones(len(items)))
        (gradient,) = torch.autograd.grad(loss, [model.get_parameter("user")])
        assert gradient.abs().max() < 1e-5


def test_round_of_least_squares_is_the_published_update() -> None:
    """An independent float64 round of federated iALS on the full table (Ammad-ud-din et al.)."""
    rows = [[0, 3, 5], [1], [4, 2], []]
    run = Toy(
        split=hand_split(rows, 7),
        training={
            "cohort": 1.0,
            "rounds": 1,
            "warmup_rounds": 0,
            "local_decay": DECAY,
            "server_optimizer": {"kind": "sgd", "lr": 0.5},
        },
        dim=3,
    )
    for backend in ("sequential", "vmap", "fused"):
        simulation = run.simulation(backend)
        table = simulation.item_vectors().double().numpy()
        mean_step, loss = np.zeros_like(table), 0.0
        for items in rows:
            items = np.array(items, dtype=np.int64)
            user = ridge(table, items, np.ones(len(items)))
            errors = table[items] @ user - 1
            mean_step[items] += errors[:, None] * user / len(rows)
            mean_step += UNOBSERVED * (table @ user)[:, None] * user / len(rows)
            loss += (errors @ errors + UNOBSERVED * ((table @ user) ** 2).sum()) / 2 / len(rows)
            loss += DECAY * user @ user / 2 / len(rows)
        result = simulation.step()
        expected = table - 0.5 * mean_step
        np.testing.assert_allclose(simulation.item_vectors().numpy(), expected, atol=1e-6)
        assert result.loss == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_gradient_steps_approach_the_solution(adapter: str) -> None:
    solved = toy(adapter, cohort=1.0, local_decay=DECAY).simulation()
    solved.step()
    slow = {"local": "gradient", "local_steps": 400, "local_optimizer": {"lr": 0.05}}
    stepped = toy(adapter, cohort=1.0, local_decay=DECAY, **slow).simulation()
    stepped.step()
    torch.testing.assert_close(
        stepped.population.local["user"], solved.population.local["user"], atol=2e-3, rtol=2e-2
    )


def scores_of(simulation: Simulation, histories: Histories, users: list[int]) -> torch.Tensor:
    return simulation.scorer(histories)(torch.tensor(users))


@pytest.mark.parametrize("loss", ["ials", "bpr", "bce", "softmax"])
@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_scores_do_not_depend_on_who_asks_or_how(loss: str, context: type) -> None:
    """Users in any order, one at a time or together, with or without gradients."""
    training = {} if loss == "ials" else GRADIENT
    run = toy("lora", loss, **training)
    simulation = run.simulation()
    simulation.step()
    before = simulation.population.local["user"].clone()
    everyone = scores_of(simulation, run.split.train, list(range(12)))
    assert everyone.shape == (12, 15)
    with context():
        shuffled = scores_of(simulation, run.split.train, [7, 2, 11, 0])
        again = scores_of(simulation, run.split.train, list(range(12)))
    assert torch.equal(again, everyone)
    assert torch.equal(simulation.population.local["user"], before)
    # negatives are each client's own, so who else is scored changes nothing
    torch.testing.assert_close(shuffled, everyone[[7, 2, 11, 0]], rtol=1e-4, atol=1e-6)


def test_fitted_scores_are_the_ridge_solution_of_what_the_device_knows() -> None:
    run = toy("full", local_decay=DECAY)
    simulation = run.simulation()
    simulation.step()
    table = simulation.item_vectors().double().numpy()
    known = run.split.before("test")
    scores = scores_of(simulation, known, list(range(12)))
    for user in range(12):
        items = known.of(user)
        expected = table @ ridge(table, items, np.ones(len(items)))
        np.testing.assert_allclose(scores[user].numpy(), expected, rtol=2e-3, atol=2e-5)


def test_stored_scores_are_those_of_the_last_time() -> None:
    run = toy("full", "bpr", **{**GRADIENT, "inference": "stored"})
    simulation = run.simulation()
    simulation.step()
    scores = scores_of(simulation, run.split.train, [3, 1])
    expected = simulation.population.local["user"][[3, 1]] @ simulation.item_vectors().T
    torch.testing.assert_close(scores, expected)


def test_absent_clients_keep_what_they_have() -> None:
    simulation = toy("lora", cohort=0.25).simulation()
    before = simulation.population.local["user"].clone()
    present = set(simulation.sampler.rows(0).tolist())
    simulation.step()
    moved = (simulation.population.local["user"] != before).any(1).nonzero().flatten().tolist()
    assert set(moved) == present
    assert len(present) == 3


def test_what_cannot_be_solved_is_refused() -> None:
    with pytest.raises(ConfigError, match="ials"):
        toy("full", "bpr").simulation()
    run = toy("full")
    simulation = run.simulation()
    model = simulation.replica.backbone

    class Crooked(type(model)):  # type: ignore[misc]
        user_vector = None

    with pytest.raises(ConfigError, match="linear"):
        simulation.task.check(Crooked(model.config, model.item), [])
