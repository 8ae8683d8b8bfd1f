"""The messages that cross the network, as versioned bytes.

What a payload means is not decided here: `fedpeft.protocol.encodings` turns named tensors into
these bytes and back.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from struct import Struct
from typing import Any, ClassVar, Self

from fedpeft.protocol.wire import Message, MessageError, check_weight, cut

LINEAGE_BYTES = 32
"""Length of a lineage: SHA-256."""


@dataclass(frozen=True)
class Broadcast(Message):
    """What the server sends to every client of a round.

    Attributes
    ----------
    round
        Number of the round, from 0.
    version
        The version of the base that the payload belongs to.
    lineage
        SHA-256 over everything the base was made from; see `extend`.
    payload
        The payload, encoded; no bytes stand for zeros that nobody has trained yet.
    """

    kind: ClassVar[int] = 1
    head: ClassVar[Struct] = Struct(f"<II{LINEAGE_BYTES}s")

    round: int
    version: int
    lineage: bytes
    payload: bytes

    def _fields(self) -> tuple[Any, ...]:
        return self.round, self.version, self.lineage

    def _body(self) -> list[bytes]:
        return [self.payload]

    @classmethod
    def _parse(cls, fields: tuple[Any, ...], body: memoryview) -> Self:
        round_number, version, lineage = fields
        return cls(round_number, version, lineage, bytes(body))


@dataclass(frozen=True)
class Upload(Message):
    """What a client sends after its round: its change, weighted, transformed and encoded.

    Attributes
    ----------
    round, version
        Those of the broadcast it answers.
    weight
        What the change was multiplied by; finite and not negative.
    loss
        The client's loss at the start of its last step, not multiplied; anything, as it is told.
    payload
        The weighted change of the payload, encoded.
    """

    kind: ClassVar[int] = 2
    head: ClassVar[Struct] = Struct("<IIff")

    round: int
    version: int
    weight: float
    loss: float
    payload: bytes

    def _fields(self) -> tuple[Any, ...]:
        return self.round, self.version, self.weight, self.loss

    def _body(self) -> list[bytes]:
        return [self.payload]

    @classmethod
    def _parse(cls, fields: tuple[Any, ...], body: memoryview) -> Self:
        round_number, version, weight, loss = fields
        check_weight(cls, weight)
        return cls(round_number, version, weight, loss, bytes(body))


@dataclass(frozen=True)
class PartialSum(Message):
    """The sum of some clients' uploads, encoded once as a whole: what a node sends.

    Attributes
    ----------
    round, version
        Those of the broadcast.
    clients, rejected
        How many uploads are in the sum, and how many were left out as not finite.
    weight, loss_sum
        Sum of the weights, and of the weighted losses.
    payload
        The sum of the weighted changes, encoded.
    """

    kind: ClassVar[int] = 3
    head: ClassVar[Struct] = Struct("<IIIIdd")

    round: int
    version: int
    clients: int
    rejected: int
    weight: float
    loss_sum: float
    payload: bytes

    def _fields(self) -> tuple[Any, ...]:
        return (
            self.round,
            self.version,
            self.clients,
            self.rejected,
            self.weight,
            self.loss_sum,
        )

    def _body(self) -> list[bytes]:
        return [self.payload]

    @classmethod
    def _parse(cls, fields: tuple[Any, ...], body: memoryview) -> Self:
        round_number, version, clients, rejected, weight, loss_sum = fields
        if not math.isfinite(loss_sum) or (not clients and (weight or loss_sum)):
            raise MessageError("PartialSum: the sum of nobody, or of losses that are not finite")
        check_weight(cls, weight)
        return cls(round_number, version, clients, rejected, weight, loss_sum, bytes(body))


@dataclass(frozen=True)
class Step(Message):
    """One merge: what a client needs to get from one version of the base to the next.

    Attributes
    ----------
    version
        The version it leads to.
    payload
        The item tensors that are merged, in the encoding of the broadcast.
    subspace
        Codes or seeds of the new subspace; may be empty.
    """

    kind: ClassVar[int] = 4
    head: ClassVar[Struct] = Struct("<IQ")

    version: int
    payload: bytes
    subspace: bytes

    def _fields(self) -> tuple[Any, ...]:
        return self.version, len(self.payload)

    def _body(self) -> list[bytes]:
        return [self.payload, self.subspace]

    @classmethod
    def _parse(cls, fields: tuple[Any, ...], body: memoryview) -> Self:
        version, length = fields
        if version == 0:
            raise MessageError("Step: version 0 is where a base begins; no merge leads to it")
        payload, subspace = cut(cls, body, length)
        return cls(version, payload, subspace)


BASE_CODINGS = ("none", "float32", "broadcast", "codes")
"""How a snapshot codes its base: not at all, as float32 rows, in the encoding of the broadcast, or
as codes and codebooks."""


@dataclass(frozen=True)
class Snapshot(Message):
    """A whole version of the base: an initial download, or a resync.

    Attributes
    ----------
    version
        The version it brings.
    coding
        One of `BASE_CODINGS`.
    lineage
        Lineage of that version.
    base
        The item table; empty where the adapter keeps none.
    subspace
        Codes or seeds of the subspace; may be empty.
    """

    kind: ClassVar[int] = 5
    head: ClassVar[Struct] = Struct(f"<IB{LINEAGE_BYTES}sQ")

    version: int
    coding: str
    lineage: bytes
    base: bytes
    subspace: bytes

    def _fields(self) -> tuple[Any, ...]:
        return self.version, BASE_CODINGS.index(self.coding), self.lineage, len(self.base)

    def _body(self) -> list[bytes]:
        return [self.base, self.subspace]

    @classmethod
    def _parse(cls, fields: tuple[Any, ...], body: memoryview) -> Self:
        version, coding, lineage, length = fields
        if coding >= len(BASE_CODINGS):
            raise MessageError(f"Snapshot: base coding {coding} is unknown")
        base, subspace = cut(cls, body, length)
        if (coding == 0) != (not base):
            raise MessageError("Snapshot: a base must be there just where its coding says so")
        return cls(version, BASE_CODINGS[coding], lineage, base, subspace)


def first_lineage(version: int, base: bytes, subspace: bytes) -> bytes:
    """Return the lineage of a version that a snapshot begins: SHA-256 over number and bytes."""
    return _digest(version.to_bytes(4, "little"), base, subspace)


def extend(lineage: bytes, step: Step) -> bytes:
    """Return the lineage after a merge: SHA-256 over the old one and the bytes of the step.

    It is over bytes, never over floats: a product differs in its last bit from machine to machine.
    """
    return _digest(lineage, step.payload, step.subspace)


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


NOTHING = first_lineage(0, b"", b"")
"""The lineage of a version that takes no download: the task says it all."""
