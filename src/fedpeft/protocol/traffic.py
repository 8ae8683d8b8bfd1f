"""Traffic: every byte of every message, by what it is for.

The log is a listener.  Whoever sends a message tells it the message's length; it knows nothing of
servers, clients or versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Protocol

Purpose = Literal[
    "upload", "download", "initial_download", "resync", "expansion_up", "expansion_down"
]
"""What a message is for: a change, a broadcast, a first base, merges that a client missed, and the
requests and replies of the graph expansion."""


class Listener(Protocol):
    """Someone who is told of messages."""

    def sent(self, purpose: Purpose, nbytes: int) -> None:
        """Take note of messages for one purpose that are so many bytes long together."""
        ...


@dataclass(frozen=True)
class RoundTraffic:
    """The bytes of one round, over all its clients.

    Attributes
    ----------
    clients
        Clients of the round's cohort.
    rejected
        How many of their uploads the server dropped because they were not finite.
    upload, download
        The clients' changes, and the broadcasts they received.
    initial_download
        What clients that joined the adapt phase in this round fetched: a first base, codes or
        seeds, and merges since where that is cheaper than the current base.
    resync
        What clients that were away at a merge fetched: the merges they missed, or a base if that is
        smaller.
    expansion_up, expansion_down
        Requests and replies of the graph expansion, of all clients in the population.
    bytes_per_client
        All bytes so far, both directions, divided by the number of clients in the population.
    event
        What happened before the round: ``warmup_end``, ``refresh``, or nothing.
    """

    round: int
    phase: str
    clients: int
    rejected: int
    upload: int
    download: int
    initial_download: int
    resync: int
    expansion_up: int
    expansion_down: int
    bytes_per_client: float
    event: str | None


@dataclass
class Totals:
    """Bytes over all clients and rounds.

    Attributes
    ----------
    warmup
        The warm-up's part of `upload` and `download`.
    participations
        How often a client took part in a round.
    rejected
        How many uploads the server dropped because they were not finite.
    """

    upload: int = 0
    download: int = 0
    initial_download: int = 0
    resync: int = 0
    expansion_up: int = 0
    expansion_down: int = 0
    warmup: int = 0
    participations: int = 0
    rejected: int = 0

    @property
    def bytes(self) -> int:
        """All bytes in both directions."""
        return (
            self.upload
            + self.download
            + self.initial_download
            + self.resync
            + self.expansion_up
            + self.expansion_down
        )


def known_totals(values: Mapping[str, int]) -> Mapping[str, int]:
    """Return saved totals as they are; raises `ValueError` where one has an unknown name."""
    unknown = set(values) - {each.name for each in fields(Totals)}
    if unknown:
        raise ValueError(f"has {min(unknown)!r}, which no run counts")
    return values


@dataclass
class Traffic:
    """The traffic of a run, round by round.

    Attributes
    ----------
    n_clients
        Clients in the population.
    totals
        Running sums.
    """

    n_clients: int
    totals: Totals = field(default_factory=Totals)
    _open: dict[Purpose, int] = field(default_factory=dict)

    def sent(self, purpose: Purpose, nbytes: int) -> None:
        """Count bytes in the round that is open."""
        self._open[purpose] = self._open.get(purpose, 0) + nbytes

    def close(
        self, round_number: int, phase: str, clients: int, rejected: int, event: str | None
    ) -> RoundTraffic:
        """End a round; return what it took."""
        spent, self._open = self._open, {}
        for purpose, nbytes in spent.items():
            setattr(self.totals, purpose, getattr(self.totals, purpose) + nbytes)
        self.totals.participations += clients
        self.totals.rejected += rejected
        if phase == "warmup":
            self.totals.warmup += spent.get("upload", 0) + spent.get("download", 0)
        return RoundTraffic(
            round=round_number,
            phase=phase,
            clients=clients,
            rejected=rejected,
            upload=spent.get("upload", 0),
            download=spent.get("download", 0),
            initial_download=spent.get("initial_download", 0),
            resync=spent.get("resync", 0),
            expansion_up=spent.get("expansion_up", 0),
            expansion_down=spent.get("expansion_down", 0),
            bytes_per_client=self.bytes_per_client,
            event=event,
        )

    def forget(self) -> None:
        """Drop what was counted in a round that did not come to its end."""
        self._open = {}

    @property
    def bytes_per_client(self) -> float:
        """Mean bytes per client of the population so far, both directions, everything included."""
        return self.totals.bytes / max(1, self.n_clients)

    def summary(self, upload: float, download: float, initial_download: float) -> dict[str, float]:
        """Return the `bytes` table of a result.

        Parameters
        ----------
        upload, download
            One message of the adapt phase in each direction.
        initial_download
            What the first clients of the adapt phase fetched once.
        """
        clients, totals = max(1, self.n_clients), self.totals
        return {
            "upload_per_client_round": upload,
            "download_per_client_round": download,
            "initial_download_per_client": initial_download,
            "warmup_per_client": totals.warmup / clients,
            "resync_per_client": totals.resync / clients,
            "expansion_per_client": (totals.expansion_up + totals.expansion_down) / clients,
            "total_per_client_mean": self.bytes_per_client,
        }

    def state(self) -> dict[str, Any]:
        """Return the totals, ready for JSON."""
        return asdict(self.totals)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from saved totals."""
        self.totals = Totals(**state)
        self._open = {}
