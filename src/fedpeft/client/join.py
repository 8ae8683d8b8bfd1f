"""A client that joins when training is over: it trains its private part, and nothing else."""

from __future__ import annotations

import copy

import numpy as np
import torch

from fedpeft.backbones import Backbone
from fedpeft.client.round import train
from fedpeft.client.state import ClientState
from fedpeft.data.dataset import Ints
from fedpeft.streams import FirstDraws
from fedpeft.training.task import Task


def join(task: Task, backbone: Backbone, history: Ints, client: int, rounds: int) -> ClientState:
    """Return the state of a client that was not there, as if it had taken part alone.

    Its local parameters begin like everyone's.  They train on its history as in a round, against
    the item vectors and shared tensors as they are now, which stay.  It takes part as often as a
    client of the run did on average, in rounds that are as far apart.

    Parameters
    ----------
    backbone
        The one-client module, holding the payload as clients receive it; it stays as it is.
    history
        int64 (L,): items, oldest first.
    client
        The number that names its streams of random numbers.
    rounds
        Rounds that the run has done.
    """
    model = copy.deepcopy(backbone)
    drawn = model.initial_local(FirstDraws(task.seed, np.array([client], np.int64)))
    local = {name: tensor[0] for name, tensor in drawn.items()}
    local |= {name: torch.zeros_like(model.get_buffer(name)) for name in model.kept}
    state = ClientState(client, history, local)
    for number in _rounds(task, rounds):
        state = train(task, model, state, number, payload=False).state
    return state


def _rounds(task: Task, rounds: int) -> list[int]:
    """Return the rounds in which a client takes part that is there at every so many."""
    if task.training.local == "solve" and not task.training.joint:
        return [max(0, rounds - 1)]  # an exact solution forgets what was before
    times = max(1, round(task.training.cohort * rounds))
    return [time * rounds // times for time in range(times)]
