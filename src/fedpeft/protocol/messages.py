"""The messages that cross the network, as versioned bytes.

Every message starts with four bytes: ``fp``, the version of the protocol, and the kind.  A fixed
head follows, little-endian, and then what the kind carries.  Decoders trust nothing: a message is
checked for its version, its kind, its length and its ranges before memory is taken for it, and what
does not fit raises `MessageError`.

What a payload means is not decided here: `fedpeft.protocol.encodings` turns named tensors into
these bytes and back.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from struct import Struct
from typing import Any, ClassVar, Self

from fedpeft.errors import InputError

VERSION = 1
"""Version of the protocol; a message of another one is refused."""
LINEAGE_BYTES = 32
"""Length of a lineage: SHA-256."""

_START = Struct("<2sBB")
_MAGIC = b"fp"


class MessageError(InputError):
    """A message is malformed, of another version, or does not belong here."""


class Message(ABC):
    """One kind of message.

    Attributes
    ----------
    kind
        Number of the kind, in the fourth byte.
    head
        Layout of the fixed fields after the first four bytes.
    """

    kind: ClassVar[int]
    head: ClassVar[Struct]

    @abstractmethod
    def _fields(self) -> tuple[Any, ...]:
        """Return the values of `head`."""

    @abstractmethod
    def _body(self) -> list[bytes]:
        """Return what follows the head, in parts."""

    @classmethod
    @abstractmethod
    def _parse(cls, fields: tuple[Any, ...], body: memoryview) -> Self:
        """Build the message from a head and what follows it; raises `MessageError`."""

    @classmethod
    def size(cls, body: int) -> int:
        """Return the length of a message with a body of so many bytes."""
        return _START.size + cls.head.size + body

    def to_bytes(self) -> bytes:
        """Return the bytes that travel."""
        start = _START.pack(_MAGIC, VERSION, self.kind)
        return b"".join([start, self.head.pack(*self._fields()), *self._body()])

    @property
    def nbytes(self) -> int:
        """Length of `to_bytes`, without making the bytes."""
        return self.size(sum(map(len, self._body())))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Undo `to_bytes`.

        Raises
        ------
        MessageError
            If the bytes are no such message, or a field is out of range.
        """
        what = cls.__name__
        if len(data) < cls.size(0):
            raise MessageError(
                f"{what}: {len(data)} bytes are too few; its head takes {cls.size(0)}"
            )
        magic, version, kind = _START.unpack_from(data)
        if magic != _MAGIC:
            raise MessageError(f"{what}: the bytes are no message of fedpeft")
        if version != VERSION:
            raise MessageError(
                f"{what}: protocol version {version} is not spoken here; it must be {VERSION}"
            )
        if kind != cls.kind:
            raise MessageError(f"{what}: the message is of kind {kind}, not {cls.kind}")
        body = memoryview(data)[cls.size(0) :]
        return cls._parse(cls.head.unpack_from(data, _START.size), body)


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
        The payload, encoded.
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
        _check_weight(cls, weight)
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
        _check_weight(cls, weight)
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
        payload, subspace = _cut(cls, body, length)
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
        base, subspace = _cut(cls, body, length)
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


def _cut(kind: type[Message], body: memoryview, length: int) -> tuple[bytes, bytes]:
    """Return the first `length` bytes of a body, and the rest."""
    if length > len(body):
        raise MessageError(f"{kind.__name__}: {length} bytes are announced, {len(body)} are there")
    return bytes(body[:length]), bytes(body[length:])


def _check_weight(kind: type[Message], weight: float) -> None:
    if not (math.isfinite(weight) and weight >= 0):
        raise MessageError(f"{kind.__name__}: weight {weight} must be finite and not negative")


NOTHING = first_lineage(0, b"", b"")
"""The lineage of a version that takes no download: the task says it all."""
