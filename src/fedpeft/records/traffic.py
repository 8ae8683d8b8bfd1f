"""``traffic.jsonl``: what crossed the network in each round."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from fedpeft.records.base import Bytes, Whole
from fedpeft.records.log import Line


class TrafficRound(Line):
    """One round; bytes are totals over all its clients."""

    FILE: ClassVar[str] = "traffic.jsonl"
    EARLIER: ClassVar[str | None] = "ledger.jsonl"

    phase: Literal["warmup", "adapt"]
    clients: Whole
    rejected: Whole = 0
    """Clients whose uploads were left out."""
    upload: Bytes
    download: Bytes
    initial_download: Bytes
    """What clients that joined the adapt phase fetched once."""
    resync: Bytes
    """What clients that were away at a merge fetched."""
    expansion_up: Bytes = 0
    """Requests of the graph expansion, of all clients in the population."""
    expansion_down: Bytes = 0
    """Replies of the graph expansion; of an earlier version's run, both directions together."""
    bytes_per_client: Bytes
    """Cumulative, both directions, mean over all clients."""
    event: Literal["refresh", "warmup_end"] | None

    @property
    def rounds_done(self) -> int:
        """The number of rounds after which the line was written."""
        return self.round + 1

    @property
    def expansion(self) -> float:
        """All messages of the graph expansion."""
        return self.expansion_up + self.expansion_down

    @classmethod
    def current(cls, value: dict[str, Any], schema: int) -> dict[str, Any]:
        """Translate what an earlier version wrote."""
        if schema > 1:
            return value
        names = {
            "one_off": "initial_download",
            "catch_up": "resync",
            "expansion": "expansion_down",
        }
        return {names.get(key, key): found for key, found in value.items()}
