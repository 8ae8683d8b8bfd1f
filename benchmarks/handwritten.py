"""An independent baseline: federated matrix factorisation as people usually write it in PyTorch.

One client after the other; each copies the rows it touches, takes two full-batch Adam steps of BPR
on them and on its user vector, and the server averages the changes by number of samples.  This is
the `paper` preset, written without any part of `fedpeft`, so it is a check of the result as well as
of the time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def federated_round(
    table: Tensor,
    users: Tensor,
    clients: Sequence[tuple[int, Tensor]],
    *,
    lr: float = 0.01,
    epochs: int = 2,
) -> None:
    """Run one round; `table` and `users` are updated in place.

    Parameters
    ----------
    table
        float (n, k): item vectors.
    users
        float (users, k): user vectors.
    clients
        For each client its row in `users` and int64 (L, 2): its items, each with a negative.
    """
    total = torch.zeros_like(table)
    samples = 0
    for client, pairs in clients:
        rows, local = torch.unique(pairs, return_inverse=True)
        items = nn.Parameter(table[rows])
        user = nn.Parameter(users[client].clone())
        optimizer = torch.optim.Adam([items, user], lr=lr)
        for _ in range(epochs):
            optimizer.zero_grad()
            scores = items[local] @ user
            loss = -F.logsigmoid(scores[:, 0] - scores[:, 1]).mean()
            loss.backward()
            optimizer.step()
        users[client] = user.detach()
        total[rows] += len(pairs) * (items.detach() - table[rows])
        samples += len(pairs)
    table += total / samples
