"""What clients download besides the broadcast: a first base, and merges that they missed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedpeft.data.dataset import Ints
from fedpeft.server.round import Server, needed
from fedpeft.server.state import ServerState


def catch_up_bytes(held: Ints, first: int, steps: Sequence[int], current: int) -> tuple[Ints, Ints]:
    """Return what clients download to hold the current version: the fewest bytes.

    Parameters
    ----------
    held
        int64 (c,): merges that each client has taken part in since the first snapshot; -1 is for
        clients that hold no base.
    first, current
        Bytes of the first snapshot, and of the current version as a snapshot.
    steps
        Bytes of each merge since the first snapshot.

    Returns
    -------
    Ints
        int64 (c,): the initial download of clients that held no base, 0 for others.
    Ints
        int64 (c,): the resync of all others.
    """
    since = np.append(np.cumsum(np.array(steps, np.int64)[::-1])[::-1], 0)
    joining = min(first + int(since[0]), current)
    behind = np.minimum(since[np.maximum(held, 0)], current)
    return np.where(held < 0, joining, 0), np.where(held < 0, 0, behind)


def download_bytes(server: Server, state: ServerState, held: Ints) -> tuple[int, int]:
    """Return the initial downloads and the resyncs of clients that hold these versions, in bytes.

    They are the lengths of the messages of `Server.catch_up`; a test holds the two together.
    """
    first = state.first
    joining, behind = catch_up_bytes(
        np.where(held < 0, -1, held - first.version),
        first.nbytes if needed(first) else 0,
        [step.nbytes for step in state.steps],
        server.snapshot_size(state),
    )
    return int(joining.sum()), int(behind.sum())
