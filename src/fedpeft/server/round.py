"""One round of the server: merge if it is time, broadcast, and step on the sum of the uploads.

`Server` holds what never changes; everything that does is a `ServerState`, which goes in and comes
out.  So a round that got no replies is run again from the state it began with.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from fedpeft.adapters import ItemEmbedding
from fedpeft.protocol.aggregate import Partial, finite
from fedpeft.protocol.encodings import Blocks
from fedpeft.protocol.layout import UploadCodec
from fedpeft.protocol.messages import (
    NOTHING,
    Broadcast,
    Snapshot,
    Step,
    extend,
    first_lineage,
)
from fedpeft.protocol.statistics import MOMENT
from fedpeft.seeding import torch_rng
from fedpeft.server.newton import Newton
from fedpeft.server.optimizer import optimizer_step
from fedpeft.server.state import ServerState, empty
from fedpeft.tensors import Tensors
from fedpeft.training.config import Event
from fedpeft.training.task import SemanticIDs, Task, item_payload, payload_parameters


class Server:
    """The server's rules for a task.

    Parameters
    ----------
    task
        What the run has agreed on.
    semantic_ids
        Codes from item text, for adapters that want them.
    texts
        float (n, D): the items' encoded texts, for a prior that reads them.
    device
        Where its tensors live.
    """

    def __init__(
        self,
        task: Task,
        *,
        semantic_ids: SemanticIDs | None = None,
        texts: Tensor | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.task = task
        self.device = device or torch.device("cpu")
        assert task.training.item_decay is not None  # settings are resolved
        unobserved = task.loss.unobserved_weight
        self._decay = task.training.item_decay + task.frequency_decay * unobserved
        self._semantic_ids = semantic_ids
        self._newton = Newton(task, texts, self.device) if task.splits else None
        self._feedback = isinstance(task.broadcast_codec, Blocks)

    def start(self, base: Tensor, coded: bytes | None = None) -> ServerState:
        """Return the state before the first round.

        Parameters
        ----------
        base
            float32 (n, k): the pretrained base.
        coded
            The base as clients download it, where codes stand for its rows.
        """
        backbone = self.task.make_backbone(self.task.item(0, base, semantic_ids=self._semantic_ids))
        shared = backbone.shared()
        for name, begun in backbone.initial_shared(torch_rng(self.task.seed, "shared")).items():
            shared[name].data.copy_(begun)
        backbone.to(self.device)
        payload = {n: p.detach() for n, p in payload_parameters(backbone).items()}
        first = self._snapshot(0, backbone.item, b"", coded)
        return ServerState(
            round=0,
            begun=-1,
            phase=self.task.first_phase,
            version=0,
            lineage=first.lineage,
            item=empty(backbone.item),
            payload=payload,
            moments={},
            residual={},
            first=first,
            anchor=self._newton.anchor(base) if self._newton else None,
        )

    def begin(self, state: ServerState) -> tuple[ServerState, Event | None]:
        """Merge the adapter if the next round begins with that; return what happened.

        It is done once: beginning the same round again changes nothing.
        """
        event = self.task.training.event_at(state.round)
        if event is None or state.begun == state.round:
            return replace(state, begun=state.round), event
        return self._merge(state, event), event

    def broadcast(self, state: ServerState) -> tuple[Broadcast, ServerState]:
        """Return the message of the round, and the state that knows what rounding lost of it."""
        meant = self._meant(state)
        payload = b"" if self._fresh(state) else self.task.broadcast_codec.encode(meant)
        message = Broadcast(state.round, state.version, state.lineage, payload)
        return message, self.received(state)[1]

    def received(self, state: ServerState) -> tuple[Tensors, ServerState]:
        """Return what clients decode of the round's broadcast, and the state after sending it.

        It equals decoding the bytes of `broadcast`, without making them.
        """
        codec, meant = self.task.broadcast_codec, self._meant(state)
        if codec.lossless:
            return meant, state
        arrived = self._through(meant)
        if not self._feedback:
            return arrived, state
        residual = {name: tensor - arrived[name] for name, tensor in meant.items()}
        return arrived, replace(state, residual=residual)

    def uploads(self, state: ServerState) -> UploadCodec:
        """Return what reads the uploads of the round."""
        shapes = {name: tensor.shape for name, tensor in state.payload.items()}
        return self.task.uploads(shapes, state.item)

    def broadcast_size(self, state: ServerState) -> int:
        """Return the length of the round's broadcast."""
        if self._fresh(state):
            return Broadcast.size(0)
        shapes = {name: tensor.shape for name, tensor in state.payload.items()}
        return Broadcast.size(self.task.broadcast_codec.size(shapes))

    def final(self, state: ServerState) -> Tensors:
        """Return the payload as all clients alike receive it, whenever they fetch it.

        It is what devices score with, and what they merge, so it has no error feedback.
        """
        return self._through(state.payload)

    def step(self, state: ServerState, total: Partial) -> ServerState:
        """Take one step along the mean of the clients' changes; end the round.

        A round without any weight, or one whose step would not be finite, changes nothing but the
        number of the round.
        """
        if total.weight <= 0 or not finite(total.sum.values()):
            return replace(state, round=state.round + 1)
        factor = self._schedule(state.round)
        if self._newton:
            payload, moments = self._newton.step(state, total, factor)
        else:
            gradient = {name: tensor / -total.weight for name, tensor in total.sum.items()}
            if self._decay:
                for name, tensor in self._penalty(state).items():
                    gradient[name] = gradient[name] + tensor
            config = self.task.training.server_optimizer_at(state.phase)
            payload, moments = optimizer_step(
                config, factor, state.payload, gradient, state.moments
            )
        if not finite([*payload.values(), *moments.values()]):  # huge, if finite, uploads
            return replace(state, round=state.round + 1)
        return replace(state, round=state.round + 1, payload=payload, moments=moments)

    def snapshot(self, state: ServerState) -> Snapshot:
        """Return the current version whole: the first as it was sent, others as float32 rows."""
        if not state.steps:
            return state.first
        return self._snapshot(state.version, state.item, state.lineage, None)

    def snapshot_size(self, state: ServerState) -> int:
        """Return the length of `snapshot`'s message."""
        if not state.steps:
            return state.first.nbytes
        return Snapshot.size(state.item.base_bytes + state.item.subspace_bytes)

    def catch_up(self, state: ServerState, held: int | None) -> list[Snapshot | Step]:
        """Return the messages that bring a client to the current version: the fewest bytes.

        Parameters
        ----------
        held
            The version that it holds; None where it holds none.  One that no step leads on from
            counts as none.
        """
        since: list[Snapshot | Step] = list(state.steps)
        if held is None or not state.first.version <= held <= state.version:
            missed = [state.first, *since] if needed(state.first) else since
        else:
            missed = since[held - state.first.version :]
        whole: list[Snapshot | Step] = [self.snapshot(state)]
        return min(missed, whole, key=_length)

    def _fresh(self, state: ServerState) -> bool:
        """Return whether the payload is zeros that nobody has trained yet: no bytes stand for them.

        It goes by the round first: zeros that training leaves may be none on another backend.
        """
        begins = state.round == 0 or self.task.training.event_at(state.round) is not None
        return begins and not any(bool(tensor.any()) for tensor in state.payload.values())

    def _meant(self, state: ServerState) -> Tensors:
        """Return the payload plus what rounding lost before (Seide et al. 2014).

        Error feedback is for the server, whose messages are a stream that every client follows.
        Clients are away for rounds at a time: what they held back would arrive stale.
        """
        if not state.residual:
            return state.payload
        return {name: tensor + state.residual[name] for name, tensor in state.payload.items()}

    def _through(self, payload: Tensors) -> Tensors:
        """Return what is decoded of an encoded payload."""
        codec = self.task.broadcast_codec
        if codec.lossless:
            return payload
        stacked = {name: tensor.unsqueeze(0) for name, tensor in payload.items()}
        return {name: tensor[0] for name, tensor in codec.through(stacked).items()}

    def _merge(self, state: ServerState, event: Event) -> ServerState:
        """Put the payload, as clients know it, into the base, and start a new adapter on it."""
        codec = self.task.broadcast_codec
        own = item_payload(state.payload)
        sent = codec.encode(own)
        arrived = codec.decode(sent, {name: tensor.shape for name, tensor in own.items()})
        merged = state.item.merge({n: t.to(self.device) for n, t in arrived.items()}).cpu()
        version = state.version + 1
        item = self.task.item(version, merged, semantic_ids=self._semantic_ids)
        item = item.to(self.device)
        shared = {n: t for n, t in state.payload.items() if not n.startswith("item.")}
        payload = {f"item.{n}": p.detach() for n, p in item.named_parameters()} | shared
        if event == "warmup_end":
            first = self._snapshot(version, item, b"", None, table=sent)
            steps: tuple[Step, ...] = ()
            lineage = first.lineage
        else:
            step = Step(version, sent, self._subspace(version, item))
            first, steps = state.first, (*state.steps, step)
            lineage = extend(state.lineage, step)
        return replace(
            state,
            begun=state.round,
            phase="adapt",
            version=version,
            lineage=lineage,
            item=empty(item),
            payload=payload,
            moments=self._kept_moments(state, shared),
            residual={},
            first=first,
            steps=steps,
        )

    def _snapshot(
        self,
        version: int,
        item: ItemEmbedding,
        lineage: bytes,
        coded: bytes | None,
        *,
        table: bytes | None = None,
    ) -> Snapshot:
        """Return a version as a message; without a lineage it begins one.

        `table` is the base in the encoding of the broadcast, where it came from there.
        """
        subspace = self._subspace(version, item)
        if item.base is None:
            coding, base = "none", b""
        elif table is not None:
            coding, base = "broadcast", table
        elif coded is not None:
            coding, base = "codes", coded
        else:
            coding, base = "float32", item.base.cpu().numpy().astype("<f4").tobytes()
        return Snapshot(
            version, coding, lineage or first_lineage(version, base, subspace), base, subspace
        )

    def _subspace(self, version: int, item: ItemEmbedding) -> bytes:
        """Return the bytes of an item embedding's subspace."""
        return self.task.adapter_at(version)[1].pack_subspace(item.frozen())

    def _kept_moments(self, state: ServerState, shared: Tensors) -> Tensors:
        """Return the moments that outlive a merge.

        Those of shared tensors do where the optimiser is of a kind, and those of readers.
        """
        training = self.task.training
        if self.task.splits:  # the others are of the old subspace
            return {MOMENT: state.moments[MOMENT]} if MOMENT in state.moments else {}
        before = training.server_optimizer_at(state.phase)
        if before.kind != training.server_optimizer_at("adapt").kind:
            return {}
        return {n: t for n, t in state.moments.items() if n.partition("|")[0] in shared}

    def _penalty(self, state: ServerState) -> Tensors:
        """Return the gradient of the L2 penalty on item vectors, for the item tensors."""
        leaves = {n: t.clone().requires_grad_() for n, t in item_payload(state.payload).items()}
        ids = torch.arange(state.item.num_embeddings, device=self.device)
        penalty = self._decay / 2 * state.item.embed(leaves, ids).square().sum()
        grads = torch.autograd.grad(
            penalty, list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        return {f"item.{name}": grad for name, grad in zip(leaves, grads, strict=True)}

    def _schedule(self, round_number: int) -> float:
        """Return the factor on the server's learning rate."""
        if self.task.training.server_schedule == "constant":
            return 1.0
        progress = round_number / max(1, self.task.training.rounds)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * progress))


def needed(first: Snapshot) -> bool:
    """Return whether clients download a first snapshot: one that tells nothing is not sent."""
    return first.lineage != NOTHING


def _length(messages: list[Snapshot | Step]) -> int:
    """Return the bytes of some messages."""
    return sum(message.nbytes for message in messages)
