"""All clients of a simulated population: what each keeps, in one tensor per name."""

from __future__ import annotations

import numpy as np
import torch

from fedpeft.backbones import Backbone
from fedpeft.client import ClientState
from fedpeft.client.state import NO_VERSION
from fedpeft.data.dataset import Histories, Ints
from fedpeft.streams import FirstDraws
from fedpeft.tensors import Tensors


class Population:
    """The states of many clients, row by row.

    Parameters
    ----------
    train
        Their train histories.
    backbone
        The one-client module; it says what is local.
    seed
        Names the streams of the clients' first local parameters.
    device
        Where local tensors live.
    ids
        int64 (clients,): the numbers that name the clients' streams; None: 0, 1, ...

    Attributes
    ----------
    local
        name -> float32 (clients, ...): local parameters and buffers.
    held
        int64 (clients,): the version of the base that each holds; -1 is none.
    """

    def __init__(
        self,
        train: Histories,
        backbone: Backbone,
        *,
        seed: int,
        device: torch.device,
        ids: Ints | None = None,
    ) -> None:
        self.train = train
        self.ids: Ints = np.arange(train.n_users, dtype=np.int64) if ids is None else ids
        drawn = backbone.initial_local(FirstDraws(seed, self.ids))
        self.local: Tensors = {name: tensor.to(device) for name, tensor in drawn.items()}
        self.local |= {  # nobody has any of it yet
            name: torch.zeros(len(self.ids), *backbone.get_buffer(name).shape).to(device)
            for name in backbone.kept
        }
        self.held: Ints = np.full(len(self.ids), NO_VERSION, np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def state(self, row: int) -> ClientState:
        """Return the state of one client."""
        local = {name: tensor[row].clone() for name, tensor in self.local.items()}
        return ClientState(
            int(self.ids[row]),
            self.train.of(row),
            local,
            int(self.held[row]),
            self.train.weights_of(row),
        )

    def put(self, row: int, state: ClientState) -> None:
        """Take over the state of one client after its round."""
        for name, tensor in state.local.items():
            self.local[name][row] = tensor

    def to_tensors(self) -> Tensors:
        """Return everything that is saved of the clients."""
        return {"held": torch.from_numpy(self.held.copy())} | {
            f"local/{name}": tensor for name, tensor in self.local.items()
        }

    def load(self, tensors: Tensors) -> None:
        """Undo `to_tensors`; the shapes must fit."""
        for name, tensor in self.local.items():
            tensor.copy_(tensors[f"local/{name}"])
        self.held = tensors["held"].numpy().copy()
