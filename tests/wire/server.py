"""The server's half of a run whose clients are somewhere else: it sees nothing but bytes."""

from __future__ import annotations

import json
import struct
import subprocess
from typing import Any, Protocol

import torch
from torch import Tensor

from fedpeft.graph.matching import MatchingServer
from fedpeft.graph.messages import ExpansionRequest
from fedpeft.protocol.aggregate import Partial
from fedpeft.protocol.traffic import RoundTraffic, Traffic
from fedpeft.seeding import numpy_rng
from fedpeft.server import Server, ServerState
from fedpeft.server.admission import Admission
from fedpeft.testing import Toy
from fedpeft.testing.toy import random_base

from .device import NOBODY, Device, devices_of, read, write


class Transport(Protocol):
    """Brings bytes to clients, and their answers back."""

    def tell(self, client: int, data: bytes) -> None:
        """Send bytes to a client."""

    def hear(self, client: int) -> bytes:
        """Return what a client has answered."""


class Wire:
    """Clients at the other end of a pipe."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def tell(self, client: int, data: bytes) -> None:
        assert self.process.stdin is not None
        write(self.process.stdin, client, data)

    def hear(self, client: int) -> bytes:
        assert self.process.stdout is not None
        frame = read(self.process.stdout)
        assert frame is not None, "the clients' process has ended"
        assert frame[0] == client
        return frame[1]


class Near:
    """Clients in this process, which are told nothing but bytes all the same."""

    def __init__(self) -> None:
        self.devices: dict[int, Device] = {}
        self.answer = b""

    def tell(self, client: int, data: bytes) -> None:
        if client == NOBODY:
            self.devices = devices_of(json.loads(data))
        elif len(data) == 4:
            self.answer = self.devices[client].request(*struct.unpack("<I", data))
        else:
            self.answer = self.devices[client].answer(data) or b""

    def hear(self, client: int) -> bytes:
        return self.answer


def agreement(run: Toy) -> bytes:
    """Return what begins a run in the clients' process."""
    train = run.split.train
    agreed: dict[str, Any] = {
        "histories": [train.of(user).tolist() for user in range(train.n_users)],
        "items": run.split.n_items,
        "adapter": run.adapter,
        "backbone": run.backbone,
        "loss": run.loss,
        "training": run.training,
        "dim": run.dim,
        "seed": run.seed,
    }
    return json.dumps(agreed).encode()


def serve(
    run: Toy,
    wire: Transport,
    rounds: list[list[int]],
    *,
    every: int = 0,
    base: Tensor | None = None,
    coded: bytes | None = None,
) -> tuple[ServerState, Traffic, list[RoundTraffic]]:
    """Run the server's half; `rounds` says who is asked in each.

    Every length in the traffic that is returned is that of bytes which were sent.
    """
    task, traffic = run.task(), Traffic(run.split.n_users)
    server = Server(task)
    admission = Admission(task, task.pipeline())
    if base is None:
        base = random_base(run.split.n_items, run.dim, run.seed)
    state, entries = server.start(base, coded), []
    held: dict[int, int] = {}
    wire.tell(NOBODY, agreement(run))
    for number, cohort in enumerate(rounds):
        state, event = server.begin(state)
        if every and number and number % every == 0:
            expand(run, wire, number, traffic)
        message, after = server.broadcast(state)
        codec = server.uploads(state)
        total = Partial.empty({name: torch.zeros(shape) for name, shape in codec.shapes.items()})
        for client in cohort:
            if state.phase == "adapt":
                purpose = "resync" if client in held else "initial_download"
                for step in server.catch_up(state, held.get(client)):
                    wire.tell(client, step.to_bytes())
                    traffic.sent(purpose, len(step.to_bytes()))
                held[client] = state.version
            wire.tell(client, message.to_bytes())
            traffic.sent("download", len(message.to_bytes()))
            sent = wire.hear(client)
            traffic.sent("upload", len(sent))
            total = admission.add(total, sent, codec, message)
        entries.append(traffic.close(number, state.phase, len(cohort), total.rejected, event))
        state = server.step(after, total)
    return state, traffic, entries


def expand(run: Toy, wire: Transport, number: int, traffic: Traffic) -> None:
    """Match the clients' requests: equal tokens are all the server sees."""
    asking = [user for user in range(run.split.n_users) if len(run.split.train.of(user))]
    sent = []
    for client in asking:
        wire.tell(client, struct.pack("<I", number))
        sent.append(wire.hear(client))
        traffic.sent("expansion_up", len(sent[-1]))
    rng = numpy_rng(run.seed, "round", number, "matching")
    replies = MatchingServer(run.backbone[1]["expansion"]["neighbours"], rng).match(
        [ExpansionRequest.from_bytes(data) for data in sent]
    )
    for client, reply in zip(asking, replies, strict=True):
        wire.tell(client, reply.to_bytes())
        traffic.sent("expansion_down", len(reply.to_bytes()))
