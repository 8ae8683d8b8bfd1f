"""Clients in a process of their own: it reads and writes nothing but bytes.

Every frame is the length of what follows (4 bytes), the client it is for (4 bytes), and a message.
A frame for nobody begins a new run: its bytes are JSON that says what the run has agreed on, whose
histories live here, and the secret from which the clients' common key comes.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import torch

from fedpeft.client import ClientState, Pipeline, Replica, client_round
from fedpeft.graph.expansion import Expansion
from fedpeft.graph.messages import ExpansionReply
from fedpeft.protocol.messages import (
    Broadcast,
    Snapshot,
    Step,
)
from fedpeft.streams import FirstDraws
from fedpeft.testing import Toy, hand_split

NOBODY = 2**32 - 1
HEAD = struct.Struct("<II")


def write(stream: BinaryIO, client: int, data: bytes) -> None:
    """Write one frame."""
    stream.write(HEAD.pack(len(data), client) + data)
    stream.flush()


def read(stream: BinaryIO) -> tuple[int, bytes] | None:
    """Read one frame; None at the end."""
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    length, client = HEAD.unpack(head)
    return client, stream.read(length)


class Device:
    """One client's device."""

    def __init__(self, toy: Toy, expansion: Expansion | None, client: int) -> None:
        task = toy.task()
        self.replica = Replica(task)
        self.expansion = expansion
        self.pipeline = Pipeline(task)
        drawn = self.replica.backbone.initial_local(FirstDraws(task.seed, np.array([client])))
        local = {name: tensor[0].clone() for name, tensor in drawn.items()}
        for name in self.replica.backbone.kept:
            local[name] = torch.zeros_like(self.replica.backbone.get_buffer(name))
        self.state = ClientState(client, toy.split.train.of(client), local)

    def answer(self, data: bytes) -> bytes | None:
        """Return what the device sends back after a message, if anything."""
        kind = data[3]
        if kind == Snapshot.kind:
            self.replica.install(Snapshot.from_bytes(data))
        elif kind == Step.kind:
            self.replica.follow(Step.from_bytes(data))
        elif kind == ExpansionReply.kind:
            self._expanded(ExpansionReply.from_bytes(data))
        elif kind == Broadcast.kind:
            message = Broadcast.from_bytes(data)
            self.pipeline.begin(message.round, self.replica.backbone)
            upload, self.state = client_round(self.replica, self.pipeline, self.state, message)
            return upload.to_bytes()
        return None

    def request(self, round_number: int) -> bytes:
        """Return the request of a graph expansion."""
        assert self.expansion is not None
        vector = self.state.local[self.replica.backbone.user_vector]
        rows = np.array([self.state.id])
        noise = self.expansion.noise(rows, len(vector), round_number)
        own = None if noise is None else noise[0]
        half = self.expansion.client(self.state.id)
        return half.request(round_number, vector, self.expansion.config, own).to_bytes()

    def _expanded(self, reply: ExpansionReply) -> None:
        assert self.expansion is not None
        found = self.expansion.client(self.state.id).receive(reply)
        near = torch.zeros_like(self.state.local["neighbours"])
        if found is not None:
            near = torch.from_numpy(found)
        self.state = replace(self.state, local=self.state.local | {"neighbours": near})


def devices_of(agreed: dict[str, Any]) -> dict[int, Device]:
    """Return the devices of a run."""
    split = hand_split(agreed.pop("histories"), agreed.pop("items"))
    toy = Toy(split=split, **agreed)
    backbone = Replica(toy.task()).backbone
    config = getattr(backbone, "expansion", None)
    expansion = None
    if config is not None and config.every:
        expansion = Expansion(split.train, split.n_items, config, seed=toy.seed)
    return {client: Device(toy, expansion, client) for client in range(split.n_users)}


def main() -> None:
    """Answer frames until there are no more."""
    torch.set_num_threads(1)
    devices: dict[int, Device] = {}
    while (frame := read(sys.stdin.buffer)) is not None:
        client, data = frame
        if client == NOBODY:
            devices = devices_of(json.loads(data))
        elif len(data) == 4:  # the time for an expansion, which every client tells by the round
            write(sys.stdout.buffer, client, devices[client].request(*struct.unpack("<I", data)))
        elif (sent := devices[client].answer(data)) is not None:
            write(sys.stdout.buffer, client, sent)


if __name__ == "__main__":
    main()
