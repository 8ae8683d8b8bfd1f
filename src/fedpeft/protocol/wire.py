"""What every message has in common: its start, its head, and decoders that trust nothing.

Every message starts with four bytes: ``fp``, the version of the protocol, and the kind.  A fixed
head follows, little-endian, and then what the kind carries.  A message is checked for its version,
its kind, its length and its ranges before memory is taken for it, and what does not fit raises
`MessageError`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from struct import Struct
from typing import Any, ClassVar, Self

from fedpeft.errors import InputError

VERSION = 1
"""Version of the protocol; a message of another one is refused."""

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


def cut(kind: type[Message], body: memoryview, length: int) -> tuple[bytes, bytes]:
    """Return the first `length` bytes of a body, and the rest."""
    if length > len(body):
        raise MessageError(f"{kind.__name__}: {length} bytes are announced, {len(body)} are there")
    return bytes(body[:length]), bytes(body[length:])


def check_weight(kind: type[Message], weight: float) -> None:
    """Raise `MessageError` unless a weight is finite and not negative."""
    if not (math.isfinite(weight) and weight >= 0):
        raise MessageError(f"{kind.__name__}: weight {weight} must be finite and not negative")
