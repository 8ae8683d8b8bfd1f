"""How a client rounds: at random, up or down in proportion to what is nearer.

So the mean over the clients is right in expectation (QSGD, Alistarh et al. 2017; Reisizadeh et al.
2020), and nothing has to be kept from one message to the next.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedpeft.streams import ClientStream


class Dither:
    """The dithers of all clients in one round.

    The dither of value i of client u is one uniform number of i plus one of u, modulo 1.  Over the
    clients the dithers of a value are thus independent and uniform, which is all that the error of
    the mean depends on, and few numbers are drawn.
    """

    def __init__(self, seed: int, round_number: int) -> None:
        self._seed, self._round = seed, round_number
        self._clients = ClientStream(seed, "round", round_number, "rounding")
        self._drawn: dict[str, Tensor] = {}

    def of_clients(self, ids: Tensor) -> Tensor:
        """Return the clients' shares, float32 (C,) in [0, 1), for int64 (C,) ids."""
        return _unit(self._clients.uniform(ids.cpu().numpy(), _FIRST)).to(ids.device)

    def of_values(self, name: str, values: int, device: torch.device) -> Tensor:
        """Return the shares of a tensor's values, float32 (N,) in [0, 1).

        The first values of a tensor have the same shares however many follow.
        """
        if name not in self._drawn or len(self._drawn[name]) < values:
            stream = ClientStream(self._seed, "round", self._round, "rounding", name)
            self._drawn[name] = _unit(stream.uniform(_FIRST, np.arange(values))).to(device)
        return self._drawn[name][:values]

    def of_client(self, client: int, name: str, values: int, device: torch.device) -> Tensor:
        """Return the dither of one client's tensor, float32 (1, N)."""
        own = self.of_clients(torch.tensor([client], device=device)).unsqueeze(1)
        return (own + self.of_values(name, values, device)).frac_()


_FIRST = np.zeros(1, np.int64)


def _unit(drawn: NDArray[np.float64]) -> Tensor:
    """Return float32 numbers, which rounding must not bring to 1."""
    return torch.from_numpy(drawn).float().clamp_(max=1 - 2**-24)
