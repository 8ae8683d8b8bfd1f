"""The ledger: every byte of every client, in both directions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fedpeft.data.dataset import Ints
from fedpeft.training.config import Event, Phase


@dataclass(frozen=True)
class Entry:
    """The bytes of one round, over all its clients.

    Attributes
    ----------
    one_off
        What clients that joined the adapt phase in this round fetched: a base table, codes or
        seeds, and merged payloads where these with an older table were cheaper than the current.
    catch_up
        What clients that were away at a merge fetched: merged payloads, or a base if smaller.
    expansion
        Requests and replies of the graph expansion, of all clients in the population.
    bytes_per_client
        All bytes so far, both directions, divided by the number of clients in the population.
    """

    round: int
    phase: Phase
    clients: int
    upload: int
    download: int
    one_off: int
    catch_up: int
    expansion: int
    bytes_per_client: float
    event: str | None


@dataclass(frozen=True)
class Prices:
    """Bytes of one message each, as the encoder measured them.

    Attributes
    ----------
    upload, download
        One payload, in either direction.
    merged
        What a client that was away needs of a payload that was merged: its item tensors.
    base, encoded_base
        The frozen base table, as float32 and in the encoding of the broadcast.  The latter is
        exact for the table that a warm-up ends with: it is the last broadcast of the warm-up.
    subspace
        The codes or seeds of the current subspace.
    """

    upload: int
    download: int
    merged: int
    base: int
    encoded_base: int
    subspace: int

    def first(self, base_bytes: int | None) -> Prices:
        """Return the prices of the pretrained base, where it is sent in so many bytes."""
        return replace(self, base=base_bytes) if self.base and base_bytes is not None else self


@dataclass
class Totals:
    """Running sums over all clients, bytes."""

    upload: int = 0
    download: int = 0
    one_off: int = 0
    catch_up: int = 0
    warmup: int = 0
    expansion: int = 0


@dataclass
class Ledger:
    """Counts bytes per round, and knows which version of the base each client holds.

    Attributes
    ----------
    held
        int64 (clients,): the version of the base a client holds; -1 is none.
    merged
        Bytes of what was merged at the end of each version.
    bases, subspaces
        Bytes of the table, and of the codes or seeds, of each version.
    """

    n_clients: int
    totals: Totals = field(default_factory=Totals)
    merged: list[int] = field(default_factory=list)
    bases: list[int] = field(default_factory=list)
    subspaces: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.held: Ints = np.full(self.n_clients, -1, np.int64)

    def open_version(self, prices: Prices, event: Event | None) -> None:
        """Begin a version of the base: the first one, or that after an event."""
        self.bases.append(prices.encoded_base if event == "warmup_end" else prices.base)
        self.subspaces.append(prices.subspace)

    def close_version(self, prices: Prices) -> None:
        """End a version: its last payload is merged into the base."""
        self.merged.append(prices.merged)

    def charge(
        self,
        round_number: int,
        phase: Phase,
        users: Ints,
        prices: Prices,
        event: str | None,
        *,
        expansion: int = 0,
    ) -> Entry:
        """Count one round in which every user downloads and uploads one payload.

        Parameters
        ----------
        expansion
            Bytes of a graph expansion before the round, both directions.
        """
        upload, download = prices.upload * len(users), prices.download * len(users)
        one_off = catch_up = 0
        if phase == "adapt":
            fresh, behind = self._base_downloads(users)
            one_off, catch_up = int(fresh.sum()), int(behind.sum())
            self.held[users] = len(self.subspaces) - 1
        else:
            self.totals.warmup += upload + download
        self.totals.upload += upload
        self.totals.download += download
        self.totals.one_off += one_off
        self.totals.catch_up += catch_up
        self.totals.expansion += expansion
        return Entry(
            round_number,
            phase,
            len(users),
            upload,
            download,
            one_off,
            catch_up,
            expansion,
            self.bytes_per_client,
            event,
        )

    def _base_downloads(self, users: Ints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return what each user pays to hold the current base: as a newcomer, or catching up."""
        current = len(self.subspaces) - 1
        # price of stepping from version j to the current one: the payloads merged at the ends of
        # versions j .. current - 1, and the subspaces of versions j + 1 .. current
        steps = np.array(self.merged, np.int64) + np.array(self.subspaces[1:], np.int64)
        from_version = np.append(np.cumsum(steps[::-1])[::-1], 0)
        # a newcomer starts from whatever version's table is the cheapest way to the current one
        whole = int((np.array(self.bases) + np.array(self.subspaces) + from_version).min())
        held = self.held[users]
        stepping = from_version[np.maximum(held, 0)]
        behind = np.where((held >= 0) & (held < current), np.minimum(stepping, whole), 0)
        return np.where(held < 0, whole, 0), behind

    @property
    def bytes_per_client(self) -> float:
        """Mean bytes per client of the population so far, both directions, everything included."""
        sums = self.totals
        total = sums.upload + sums.download + sums.one_off + sums.catch_up + sums.expansion
        return total / max(1, self.n_clients)

    def summary(self, prices: Prices) -> dict[str, float]:
        """Return the `bytes` table of a result."""
        clients = max(1, self.n_clients)
        return {
            "upload_per_client_round": prices.upload,
            "download_per_client_round": prices.download,
            "one_off_per_client": sum(self.bases[:1]) + sum(self.subspaces[:1]),
            "warmup_per_client": self.totals.warmup / clients,
            "catch_up_per_client": self.totals.catch_up / clients,
            "expansion_per_client": self.totals.expansion / clients,
            "total_per_client_mean": self.bytes_per_client,
        }

    def state(self) -> dict[str, object]:
        """Return everything but `held`, ready for JSON."""
        return {
            "totals": asdict(self.totals),
            "merged": self.merged,
            "bases": self.bases,
            "subspaces": self.subspaces,
        }

    def restore(self, state: dict[str, object], held: Ints) -> None:
        """Continue from a saved `state` and `held`."""
        self.totals = Totals(**state["totals"])  # type: ignore[arg-type]
        self.merged = list(state["merged"])  # type: ignore[call-overload]
        self.bases = list(state["bases"])  # type: ignore[call-overload]
        self.subspaces = list(state["subspaces"])  # type: ignore[call-overload]
        self.held = held.copy()
