"""One client's local training: the local phase, then its steps on the payload.

It is written for one client and to be read; `fedpeft.simulation.problem` computes the same for many
clients at once, and the tests hold the two together.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fedpeft.backbones import Backbone
from fedpeft.errors import RunError
from fedpeft.training.task import Task


class Stepped(NamedTuple):
    """What local training found, besides what it changed in the module.

    Attributes
    ----------
    loss
        At the start of the last payload step; 0 where there is none.
    reader
        float (k,): what scored then, where it is asked for.
    """

    loss: float
    reader: Tensor | None


def train_client(
    task: Task,
    model: Backbone,
    items: Tensor,
    weight: Tensor,
    round_number: int,
    *,
    payload: bool = True,
) -> Stepped:
    """Train one client's model in place: the local phase, then the payload steps.

    Parameters
    ----------
    model
        The client's module, holding the payload as received and its local parameters.
    items
        int64 (L, 1 + m): each train item with the negatives drawn for it.
    weight
        float (L,): importance of each train item.
    payload
        Whether the payload moves; if not, the steps on it move what else they would.

    """
    training = task.training
    local_optimizer = training.local_optimizer_at(round_number)
    local = [model.get_parameter(name) for name in model.local]
    if training.local == "solve":
        solve_local(task, model, items[:, 0], weight)
    elif training.local_steps:
        optimizer = local_optimizer.build(local)
        for _ in range(training.local_steps):
            optimizer.zero_grad()
            client_loss(task, model, items, weight).backward(inputs=local)
            optimizer.step()
    moving, optimizers = [], []
    if payload:
        moving += [p for name, p in model.named_parameters() if name not in model.local]
        optimizers.append(training.payload_optimizer.build(moving.copy()))
    if training.joint:
        optimizers.append(local_optimizer.build(local))
        moving += local
    loss, reader = torch.zeros(()), model.reader().detach() if task.splits else None
    for _ in range(training.payload_steps if moving else 0):
        model.zero_grad()
        loss = client_loss(task, model, items, weight)
        (loss + own_items_penalty(task, model, items[:, 0], weight)).backward(inputs=moving)
        for optimizer in optimizers:
            optimizer.step()
    return Stepped(float(loss.detach()), reader)


def client_loss(task: Task, model: Backbone, items: Tensor, weight: Tensor) -> Tensor:
    """Return one client's loss with its regularisation, a float scalar."""
    scores = model(items)
    total = task.loss(scores[:, 0], scores[:, 1:], weight)
    if task.loss.unobserved_weight:
        # every item counts alike here, as one that is new to the client
        table = model.item(torch.arange(model.item.num_embeddings, device=items.device))
        if task.splits:  # what it does to item vectors follows from the reader's outer product
            table = table.detach()
        total = total + task.loss.unobserved_weight / 2 * model.score(table).square().sum()
    decay = task.local_decay(weight)
    if decay:  # infinity times zero is no loss
        for name in model.local:
            total = total + decay / 2 * model.get_parameter(name).square().sum()
    return total


def own_items_penalty(task: Task, model: Backbone, positives: Tensor, weight: Tensor) -> Tensor:
    """Return the client's part of the items' frequency-scaled penalty, a float scalar."""
    decay = task.own_items_decay
    if not decay:
        return weight.new_zeros(())
    penalty: Tensor = (weight.unsqueeze(-1) * model.item(positives).square()).sum()
    return decay / 2 * penalty


@torch.no_grad()
def solve_local(task: Task, model: Backbone, positives: Tensor, weight: Tensor) -> None:
    """Set the user vector to the minimiser of the client's loss (Hu et al. 2008, eq. 4).

    What the model scores without it, from the client's history, is explained already.
    """
    assert model.user_vector is not None  # `Task.check` saw to it
    user = model.get_parameter(model.user_vector).zero_()
    table = model.item(torch.arange(model.item.num_embeddings, device=positives.device))
    seen = table[positives]
    system = (
        seen.T @ (weight.unsqueeze(1) * seen)
        + task.loss.unobserved_weight * table.T @ table
        + task.local_decay(weight) * torch.eye(table.shape[1], device=table.device)
    )
    missing = weight * (1 - model(positives))
    beyond = task.loss.unobserved_weight * model.score(table)
    factor, failed = torch.linalg.cholesky_ex(system)
    if failed:
        if system.isfinite().all():
            raise no_unique_solution(float(task.local_decay(weight)))
        user.fill_(torch.nan)  # diverged: the upload will tell
        return
    right = (missing @ seen - beyond @ table).unsqueeze(-1)
    user.copy_(torch.cholesky_solve(right, factor).squeeze(-1))


def no_unique_solution(local_decay: float) -> RunError:
    """Return what is wrong where a client's least squares cannot be solved in float32."""
    return RunError(
        "a client's least-squares problem has no unique solution in float32; raise "
        f"training.local_decay, now {local_decay:g}, or, if item vectors grew too large, lower "
        "training.server_optimizer.lr"
    )
