"""The reference loop: one client after the other.  The oracle of every fast backend."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from fedpeft.backbones import Backbone, HistoryBackbone
from fedpeft.simulation.cohort import Cohort
from fedpeft.simulation.problem import LocalProblem, weights
from fedpeft.simulation.update import Update, on_user
from fedpeft.tensors import Tensors
from fedpeft.transforms import UpdateTransform


def run_loop(
    problem: LocalProblem,
    local: Tensors,
    cohort: Cohort,
    transforms: Sequence[UpdateTransform] = (),
) -> Update:
    """Run a round; `local` is updated in place."""
    received = payload_of(problem.backbone)
    device = next(iter(received.values())).device
    lengths = torch.from_numpy(cohort.lengths)
    shares = weights(problem.loss, lengths)
    shares = shares / (float(shares.sum()) or 1.0)
    change = {name: torch.zeros_like(tensor) for name, tensor in received.items()}
    mean_loss = 0.0
    for position, user in enumerate(cohort.users):
        model = copy.deepcopy(problem.backbone)
        for name in model.local:
            model.get_parameter(name).data.copy_(local[name][user])
        for name in model.kept:
            model.get_buffer(name).copy_(local[name][user])
        items = torch.from_numpy(cohort.of(position)).to(device)
        weight = torch.from_numpy(cohort.weights(slice(position, position + 1))[0]).to(device)
        weight = weight[: len(items)]
        if isinstance(model, HistoryBackbone):
            model.remember(items[:, 0], weight)
        loss = train_client(problem, model, items, weight)
        for name in model.local:
            local[name][user] = model.get_parameter(name).detach()
        after = payload_of(model)
        moved = {name: (after[name] - received[name]).unsqueeze(0) for name in received}
        moved = on_user(transforms, moved, torch.tensor([user], device=device))
        for name, delta in moved.items():
            change[name] += shares[position] * delta[0]
        mean_loss += float(shares[position]) * loss
    return Update(change, mean_loss)


def train_client(problem: LocalProblem, model: Backbone, items: Tensor, weight: Tensor) -> float:
    """Train one client's model in place: the local phase, then the payload steps.

    Parameters
    ----------
    model
        The client's module, holding the payload as received and its local parameters.
    items
        int64 (L, 1 + m): each train item with the negatives drawn for it.
    weight
        float (L,): importance of each train item.

    Returns
    -------
    float
        The loss at the start of the last payload step.
    """
    training = problem.training
    local = [model.get_parameter(name) for name in model.local]
    if training.local == "solve":
        solve_local(problem, model, items[:, 0], weight)
    elif training.local_steps:
        optimizer = problem.local_optimizer.build(local)
        for _ in range(training.local_steps):
            optimizer.zero_grad()
            client_loss(problem, model, items, weight).backward(inputs=local)
            optimizer.step()
    payload = [p for name, p in model.named_parameters() if name not in model.local]
    optimizers = [training.payload_optimizer.build(payload)]
    moving = list(payload)
    if training.joint:
        optimizers.append(problem.local_optimizer.build(local))
        moving += local
    loss = torch.zeros(())
    for _ in range(training.payload_steps):
        model.zero_grad()
        loss = client_loss(problem, model, items, weight)
        loss.backward(inputs=moving)
        for optimizer in optimizers:
            optimizer.step()
    return float(loss.detach())


def client_loss(problem: LocalProblem, model: Backbone, items: Tensor, weight: Tensor) -> Tensor:
    """Return one client's loss with its regularisation, a float scalar."""
    scores = model(items)
    total = problem.loss(scores[:, 0], scores[:, 1:], weight)
    if problem.loss.unobserved_weight:
        # every item counts alike here, as one that is new to the client
        everything = torch.arange(model.item.num_embeddings, device=items.device)
        squares = model.score(model.item(everything)).square().sum()
        total = total + problem.loss.unobserved_weight / 2 * squares
    for name in model.local:
        penalty = model.get_parameter(name).square().sum()
        total = total + problem.training.local_decay / 2 * penalty
    return total


@torch.no_grad()
def solve_local(problem: LocalProblem, model: Backbone, positives: Tensor, weight: Tensor) -> None:
    """Set the user vector to the minimiser of the client's loss (Hu et al. 2008, eq. 4).

    What the model scores without it, from the client's history, is explained already.
    """
    assert model.user_vector is not None  # LocalProblem checked it
    user = model.get_parameter(model.user_vector).zero_()
    table = model.item(torch.arange(model.item.num_embeddings, device=positives.device))
    seen = table[positives]
    system = (
        seen.T @ (weight.unsqueeze(1) * seen)
        + problem.loss.unobserved_weight * table.T @ table
        + problem.training.local_decay * torch.eye(table.shape[1], device=table.device)
    )
    missing = weight * (1 - model(positives))
    beyond = problem.loss.unobserved_weight * model.score(table)
    user.copy_(torch.linalg.solve(system, missing @ seen - beyond @ table))


def payload_of(model: Backbone) -> Tensors:
    """Return copies of the tensors that travel: the item embedding's and the shared ones."""
    return {
        name: p.detach().clone() for name, p in model.named_parameters() if name not in model.local
    }
