"""Bytes that cross the network: the encoder is asked for sizes, the ledger for their sum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedpeft.backbones import Backbone
from fedpeft.cost.strategy import Scale, Strategy, shapes_only
from fedpeft.data.dataset import Histories, Ints
from fedpeft.data.recency import RecencyConfig
from fedpeft.protocol.encodings import CODECS
from fedpeft.protocol.traffic import Ledger, Prices
from fedpeft.server.server import price
from fedpeft.simulation.cohort import CohortSampler
from fedpeft.training.config import Phase, TrainingConfig

AS_SET = "as set"
"""Names the strategy's own setting among encodings: either direction as its training has it."""

MAX_CLIENTS = 20_000
"""A larger population is represented by so many, as bytes are means over clients, or by as many as
a cohort of `LEAST_COHORT` takes."""
LEAST_COHORT = 10


@dataclass(frozen=True)
class Communication:
    """What one client sends and receives, in bytes.

    Attributes
    ----------
    encoding
        What was asked for: a value encoding of both directions, or `AS_SET`.
    upload_encoding, download_encoding
        How payload values travel.
    upload_round, download_round
        One payload of the adapt phase; one comes up and one goes down per round.
    warmup_upload_round, warmup_download_round
        One payload of the warm-up, where there is one.
    base, subspace
        One-off download: the table the adapt phase begins with; codes or hash seeds.
    upload, download, warmup, one_off, catch_up, total
        Over the whole run, mean over all clients.  Upload and download are payloads alone, those
        of the warm-up among them; `warmup` is the warm-up's part of both.
    """

    encoding: str
    upload_encoding: str
    download_encoding: str
    upload_round: int
    download_round: int
    warmup_upload_round: int | None
    warmup_download_round: int | None
    base: int
    subspace: int
    upload: float
    download: float
    warmup: float
    one_off: float
    catch_up: float
    total: float


def stand_ins(share: float, scale: Scale) -> int:
    """Return how many clients represent the population, of which a share takes part in a round."""
    return min(scale.clients, max(MAX_CLIENTS, math.ceil(LEAST_COHORT / share)))


def cohorts(rounds: int, share: float, scale: Scale) -> list[Ints]:
    """Return who takes part in each round of a run: the draws that a simulation would make."""
    clients = stand_ins(share, scale)
    nothing = Histories(np.zeros(clients + 1, np.int64), np.zeros(0, np.int64))
    sampler = CohortSampler(
        nothing,
        scale.items,
        share=share,
        negatives=0,
        recency=RecencyConfig(),
        seed=scale.seed,
    )
    return [sampler.draw(number).users for number in range(rounds)]


def communication(
    strategy: Strategy, scale: Scale, encodings: Sequence[str], drawn: Sequence[Ints]
) -> tuple[Communication, ...]:
    """Return the bytes of a strategy under each value encoding.

    Parameters
    ----------
    encodings
        Encodings of both directions; `AS_SET` is the strategy's own setting.
    drawn
        What `cohorts` returned for the strategy's rounds.

    Notes
    -----
    The graph expansion of `fedpergnn` is not included: it depends on the histories, and is the same
    for all strategies.
    """
    with shapes_only():
        modules: dict[Phase, Backbone] = {"adapt": strategy.sketch(scale)}
        if strategy.training.warmup_rounds:
            modules["warmup"] = strategy.sketch(scale, warmup=True)
        ways = {encoding: _ways(strategy.training, encoding) for encoding in encodings}
        prices = {
            encoding: {
                phase: price(CODECS[up](), CODECS[down](), module)
                for phase, module in modules.items()
            }
            for encoding, (up, down) in ways.items()
        }
    clients = stand_ins(strategy.training.cohort, scale)
    return tuple(
        _summarised(
            encoding,
            ways[encoding],
            found,
            account(strategy.training, found, drawn, clients, strategy.base_bytes(scale)),
        )
        for encoding, found in prices.items()
    )


def _ways(training: TrainingConfig, encoding: str) -> tuple[str, str]:
    """Return the encodings of uploads and downloads."""
    if encoding == AS_SET:
        return training.encoding, training.broadcast_encoding
    return encoding, encoding


def _summarised(
    encoding: str, ways: tuple[str, str], prices: Mapping[Phase, Prices], ledger: Ledger
) -> Communication:
    adapt, warmup, clients = prices["adapt"], prices.get("warmup"), ledger.n_clients
    found = ledger.summary(adapt)
    return Communication(
        encoding=encoding,
        upload_encoding=ways[0],
        download_encoding=ways[1],
        upload_round=adapt.upload,
        download_round=adapt.download,
        warmup_upload_round=warmup.upload if warmup else None,
        warmup_download_round=warmup.download if warmup else None,
        base=sum(ledger.bases[:1]),
        subspace=adapt.subspace,
        upload=ledger.totals.upload / clients,
        download=ledger.totals.download / clients,
        warmup=found["warmup_per_client"],
        one_off=ledger.totals.one_off / clients,
        catch_up=found["catch_up_per_client"],
        total=found["total_per_client_mean"],
    )


def account(
    training: TrainingConfig,
    prices: Mapping[Phase, Prices],
    drawn: Sequence[Ints],
    clients: int,
    base_bytes: int | None = None,
) -> Ledger:
    """Return the ledger after a whole run at these prices."""
    ledger = Ledger(clients)
    phase: Phase = "warmup" if training.warmup_rounds else "adapt"
    if phase == "adapt":
        ledger.open_version(prices[phase].first(base_bytes), None)
    for number, users in enumerate(drawn):
        event = training.event_at(number)
        if event == "warmup_end":
            phase = "adapt"
        elif event == "refresh":
            ledger.close_version(prices[phase])
        if event:
            ledger.open_version(prices[phase], event)
        ledger.charge(number, phase, users, prices[phase], event)
    return ledger
