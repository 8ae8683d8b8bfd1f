"""The messages of graph expansion, as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fedpeft.protocol.wire import Message, MessageError

Vectors = NDArray[np.float32]

TOKEN_BYTES = 16
"""Half of SHA-256's output, the shortest that RFC 2104 (section 5) advises."""
COUNT_BYTES = 2
"""What says how many vectors a token brought."""


@dataclass(frozen=True, eq=False)
class ExpansionRequest(Message):
    """What a client sends.

    Attributes
    ----------
    round
        Number of the round that the expansion comes before.
    tokens
        Keyed hashes of its items, in the order of the hashes, so that places tell nothing.
    vector
        float32 (k,): its user vector, clipped and noised.
    """

    kind: ClassVar[int] = 6
    head: ClassVar[Struct] = Struct("<II")

    round: int
    tokens: tuple[bytes, ...]
    vector: Vectors

    def _fields(self) -> tuple[Any, ...]:
        return self.round, len(self.tokens)

    def _body(self) -> list[bytes]:
        return [*self.tokens, self.vector.astype("<f4").tobytes()]

    @classmethod
    def _parse(cls, fields: tuple[Any, ...], body: memoryview) -> Self:
        round_number, count = fields
        ends = TOKEN_BYTES * count
        if len(body) < ends or (len(body) - ends) % 4:
            raise MessageError(f"ExpansionRequest: {len(body)} bytes do not hold {count} tokens")
        places = range(0, ends, TOKEN_BYTES)
        tokens = tuple(bytes(body[place : place + TOKEN_BYTES]) for place in places)
        if len(set(tokens)) < count:
            raise MessageError("ExpansionRequest: a token is there twice; each must be there once")
        vector = np.frombuffer(body[ends:], "<f4").astype(np.float32)
        if not np.isfinite(vector).all():
            raise MessageError("ExpansionRequest: the vector must be finite")
        return cls(round_number, tokens, vector)


@dataclass(frozen=True, eq=False)
class ExpansionReply(Message):
    """What a client gets back.

    Attributes
    ----------
    round
        That of the request.
    dim
        k.
    neighbours
        For each token, in the request's order, float32 (m, k): vectors of m others.
    """

    kind: ClassVar[int] = 7
    head: ClassVar[Struct] = Struct("<III")

    round: int
    dim: int
    neighbours: tuple[Vectors, ...]

    def _fields(self) -> tuple[Any, ...]:
        return self.round, self.dim, len(self.neighbours)

    def _body(self) -> list[bytes]:
        counts = np.array([len(found) for found in self.neighbours], "<u2")
        return [counts.tobytes(), *(v.astype("<f4").tobytes() for v in self.neighbours)]

    @classmethod
    def _parse(cls, fields: tuple[Any, ...], body: memoryview) -> Self:
        round_number, dim, count = fields
        if len(body) < COUNT_BYTES * count:
            raise MessageError(f"ExpansionReply: {len(body)} bytes do not hold {count} counts")
        counts = np.frombuffer(body, "<u2", count).astype(np.int64)
        values = body[COUNT_BYTES * count :]
        if len(values) != 4 * dim * int(counts.sum()):
            raise MessageError(
                f"ExpansionReply: {len(values)} bytes do not hold {int(counts.sum())} vectors"
            )
        vectors = np.frombuffer(values, "<f4").astype(np.float32).reshape(int(counts.sum()), dim)
        if not np.isfinite(vectors).all():
            raise MessageError("ExpansionReply: the vectors must be finite")
        found = tuple(np.split(vectors, np.cumsum(counts)[:-1])) if count else ()
        return cls(round_number, dim, found)
