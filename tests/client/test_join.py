"""A client that joins late trains what a client in a round trains, and leaves the payload alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedpeft.client import ClientState, client_round, join
from fedpeft.client.local import client_loss
from fedpeft.client.round import importance, sample, train
from fedpeft.testing import Toy
from toys import SGD, toy

CASES = {
    "solve": toy(),
    "steps": toy(loss="bpr", local="gradient", local_steps=9, local_optimizer=SGD, local_decay=0.0),
    "pfedrec": replace(
        toy(loss="bce", local="gradient", local_steps=2, local_optimizer=SGD),
        backbone=("pfedrec", {}),
    ),
    "fedpergnn": replace(toy(loss="ials"), backbone=("fedpergnn", {"expansion": {"every": 0}})),
}


@pytest.mark.parametrize("case", CASES)
def test_it_trains_as_in_a_round(case: str) -> None:
    """Without the payload's steps the local parameters come out as `client_round` has them."""
    simulation = CASES[case].simulation("sequential")
    simulation.step()
    state = simulation.population.state(2)
    message, _ = simulation.server.broadcast(simulation.state)
    simulation.pipeline.begin(simulation.round, simulation.replica.backbone)
    _, after = client_round(simulation.replica, simulation.pipeline, state, message)
    simulation.replica.hold(simulation.replica.receive(message))
    model = simulation.final_backbone()
    received = simulation.replica.receive(message)
    for name, parameter in model.named_parameters():
        if name in received:
            parameter.data = received[name].clone()
    before = {n: p.clone() for n, p in model.named_parameters() if n in received}
    alone = train(simulation.task, model, state, simulation.round, payload=False).state
    for name, tensor in after.local.items():
        assert torch.equal(alone.local[name], tensor)
    for name, parameter in model.named_parameters():
        if name in before:
            assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("case", CASES)
def test_it_learns(case: str) -> None:
    """Its loss is below that of someone whose local parameters have just been drawn."""
    run: Toy = CASES[case]
    simulation = run.simulation()
    for _ in range(6):
        simulation.step()
    history = np.array([1, 4, 9, 12], np.int64)
    task, model = simulation.task, simulation.final_backbone()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    joined = join(task, model, history, client=len(simulation.population), rounds=6)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    fresh = join(replace(task, training=_still(task)), model, history, joined.id, rounds=1)
    assert _loss(simulation, joined) < _loss(simulation, fresh)


def _still(task):  # type: ignore[no-untyped-def]
    """Return settings under which nothing moves."""
    return task.training.model_copy(update={"local": "gradient", "local_steps": 0, "joint": False})


def _loss(simulation, state: ClientState) -> float:  # type: ignore[no-untyped-def]
    model, task = simulation.final_backbone(), simulation.task
    train(replace(task, training=_still(task)), model, state, 0, payload=False)  # sets it
    draws = [sample(task, state, number) for number in range(100, 150)]
    losses = [client_loss(task, model, items, importance(task, state)).item() for items in draws]
    return sum(losses) / len(losses)
