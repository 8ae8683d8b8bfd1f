"""One round of one client: a broadcast in, an upload out."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from fedpeft.backbones import Backbone, HistoryBackbone
from fedpeft.client.local import train_client
from fedpeft.client.pipeline import Pipeline
from fedpeft.client.replica import Replica
from fedpeft.client.state import ClientState
from fedpeft.data.dataset import Histories, Ints
from fedpeft.data.negatives import TrainNegatives
from fedpeft.protocol.aggregate import finite
from fedpeft.protocol.messages import (
    Broadcast,
    Upload,
)
from fedpeft.protocol.statistics import MOMENT, WEIGHTS, item_weights
from fedpeft.streams import ClientStream
from fedpeft.tensors import Tensors
from fedpeft.training.task import Task, payload_parameters


def client_round(
    replica: Replica, pipeline: Pipeline, state: ClientState, message: Broadcast
) -> tuple[Upload, ClientState]:
    """Return what a client sends in answer to a broadcast, and what it keeps.

    Nothing that is handed in changes, so a round can be run again.  A client keeps its old local
    parameters where these, its loss or its change are not finite after training.

    Parameters
    ----------
    replica
        The model at the version of the broadcast.
    pipeline
        At the round of the broadcast.

    Raises
    ------
    MessageError
        If the broadcast does not belong to the base that the replica holds.
    """
    task = replica.task
    received = replica.receive(message)
    model = copy.deepcopy(replica.backbone)
    with torch.no_grad():
        for name, parameter in payload_parameters(model).items():
            parameter.data = received[name].clone()
    trained = train(task, model, state, message.round)

    weights = task.weights(torch.tensor([len(state.history)], device=replica.device))
    change = {
        name: (p.detach() - received[name]).unsqueeze(0)
        for name, p in payload_parameters(model).items()
    }
    if trained.reader is not None:
        form = task.moment_form(model.item)
        change[MOMENT] = form.of_readers(trained.reader.unsqueeze(0))
    if task.tells_histories:
        own, weight = torch.from_numpy(state.history), importance(task, state)
        told = item_weights(own.unsqueeze(0), weight.unsqueeze(0), task.n_items)
        change[WEIGHTS] = told.to(replica.device)
    ids = torch.tensor([state.id], device=replica.device)
    sent = pipeline.transform(change, ids, weights)
    payload = pipeline.encode({n: t[0] for n, t in sent.items()}, state.id, trained.touched)
    upload = Upload(message.round, message.version, float(weights), trained.loss, payload)
    after = trained.state if finite(sent.values()) else state
    return upload, replace(after, version=message.version)


class Trained(NamedTuple):
    """What a client has after training.

    Attributes
    ----------
    state
        With the trained local parameters; with the old ones where these or the loss are not finite.
    loss
        At the start of the last payload step.
    touched
        int64 (t,), ascending: the items it trained on.
    reader
        float (k,): what scored before the payload moved, where the server asks for it.
    """

    state: ClientState
    loss: float
    touched: torch.Tensor
    reader: torch.Tensor | None


def train(
    task: Task, model: Backbone, state: ClientState, round_number: int, *, payload: bool = True
) -> Trained:
    """Train a model that holds the payload as the client of this state, in place.

    Without `payload` only the local parameters move.
    """
    device = model.item.device
    _set_local(model, state.local)
    items = sample(task, state, round_number).to(device)
    weight = importance(task, state).to(device)
    if isinstance(model, HistoryBackbone):
        model.remember(items[:, 0], weight)
    loss, reader = train_client(task, model, items, weight, round_number, payload=payload)
    local = _local_of(model)
    sound = math.isfinite(loss) and finite(local.values())
    after = replace(state, local=local) if sound else state
    return Trained(after, loss, items.unique(), reader)


def sample(task: Task, state: ClientState, round_number: int) -> torch.Tensor:
    """Return the train items and the negatives drawn for each, int64 (L, 1 + m)."""
    items = state.history[:, None]
    if task.loss.negatives:
        drawn = TrainNegatives(_alone(state.history), task.n_items).sample(
            np.zeros(1, np.int64),
            task.loss.negatives,
            ClientStream(task.seed, "round", round_number, "negatives"),
            np.array([state.id]),
        )
        items = np.concatenate([items, drawn], axis=1)
    return torch.from_numpy(items)


def importance(task: Task, state: ClientState) -> torch.Tensor:
    """Return how much each train item counts, by its age and by what it was, float32 (L,)."""
    ages = np.arange(len(state.history))[::-1]
    weights = task.training.recency.weights(ages).astype(np.float32)
    return torch.from_numpy(weights if state.weights is None else weights * state.weights)


def _alone(history: Ints) -> Histories:
    """Return one client's history as a population of one."""
    return Histories(np.array([0, len(history)], np.int64), history)


@torch.no_grad()
def _set_local(model: Backbone, local: Tensors) -> None:
    for name in model.local:
        model.get_parameter(name).copy_(local[name])
    for name in model.kept:
        model.get_buffer(name).copy_(local[name])


def _local_of(model: Backbone) -> Tensors:
    """Return copies of a client's local parameters and buffers."""
    own = {name: model.get_parameter(name) for name in model.local}
    own |= {name: model.get_buffer(name) for name in model.kept}  # type: ignore[misc]
    return {name: tensor.detach().clone() for name, tensor in own.items()}
