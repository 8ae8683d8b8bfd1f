"""Bytes that cross the network: message sizes, added up over the rounds of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from fedpeft.backbones import Backbone
from fedpeft.cost.strategy import Scale, Strategy, shapes_only
from fedpeft.data.dataset import Histories, Ints
from fedpeft.data.recency import RecencyConfig
from fedpeft.server.catch_up import catch_up_bytes
from fedpeft.server.sizes import MessageSizes, message_sizes
from fedpeft.simulation.cohort import CohortSampler
from fedpeft.training.config import EncodingName, Phase, TrainingConfig

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
    upload_layout
        How a change is laid out (`training.upload`); `rows` is counted for the items that a client
        touches in a step.
    upload_round, download_round
        One payload of the adapt phase; one comes up and one goes down per round.
    statistics_round
        What of the upload is statistics for a second-order server.
    merge_round
        What a client that was there before a merge fetches after it; None where there are none.
    mean_download_round
        What comes down in a round on average over the run: broadcasts, of which some have no
        values, and merges, but not the initial download.
    warmup_upload_round, warmup_download_round
        One payload of the warm-up, where there is one.
    base, subspace
        Initial download: the table the adapt phase begins with; codes or hash seeds.
    participations
        Rounds that a client takes part in, mean over all clients, as is what follows.
    upload, download, warmup, initial_download, resync, total
        Over the whole run.  Upload and download are payloads alone, those of the warm-up among
        them, and a payload of zeros has no values; `warmup` is the warm-up's part of both.
    """

    encoding: str
    upload_encoding: str
    download_encoding: str
    upload_layout: str
    upload_round: int
    download_round: int
    statistics_round: int
    merge_round: int | None
    mean_download_round: float
    warmup_upload_round: int | None
    warmup_download_round: int | None
    base: int
    subspace: int
    participations: float
    upload: float
    download: float
    warmup: float
    initial_download: float
    resync: float
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
    return [sampler.rows(number) for number in range(rounds)]


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
    ways = {encoding: _ways(strategy.training, encoding) for encoding in encodings}
    with shapes_only():
        modules: dict[Phase, Backbone] = {"adapt": strategy.sketch(scale)}
        if strategy.training.warmup_rounds:
            modules["warmup"] = strategy.sketch(scale, warmup=True)
        sizes = {
            encoding: {
                phase: message_sizes(
                    strategy.task(scale, *found), module, touched=min(scale.touched, scale.items)
                )
                for phase, module in modules.items()
            }
            for encoding, found in ways.items()
        }
    clients = stand_ins(strategy.training.cohort, scale)
    return tuple(
        _summarised(
            encoding,
            ways[encoding],
            strategy.training,
            found,
            account(strategy.training, found, drawn, clients, strategy.base_bytes(scale)),
            clients,
        )
        for encoding, found in sizes.items()
    )


def _ways(training: TrainingConfig, encoding: str) -> tuple[EncodingName, EncodingName]:
    """Return the encodings of uploads and downloads."""
    if encoding == AS_SET:
        return training.encoding, training.broadcast_encoding
    name = cast(EncodingName, encoding)
    return name, name


def _summarised(
    encoding: str,
    ways: tuple[str, str],
    training: TrainingConfig,
    sizes: Mapping[Phase, MessageSizes],
    spent: Account,
    clients: int,
) -> Communication:
    adapt, warmup = sizes["adapt"], sizes.get("warmup")
    assert adapt.upload is not None  # what clients touch is given
    return Communication(
        encoding=encoding,
        upload_encoding=ways[0],
        download_encoding=ways[1],
        upload_layout=training.upload,
        upload_round=adapt.upload,
        download_round=adapt.download,
        statistics_round=adapt.statistics,
        merge_round=adapt.step if training.refresh_every else None,
        mean_download_round=(spent.download + spent.resync) / max(1, spent.participations),
        warmup_upload_round=warmup.upload if warmup else None,
        warmup_download_round=warmup.download if warmup else None,
        base=spent.base,
        subspace=adapt.subspace,
        participations=spent.participations / clients,
        upload=spent.upload / clients,
        download=spent.download / clients,
        warmup=spent.warmup / clients,
        initial_download=spent.initial_download / clients,
        resync=spent.resync / clients,
        total=(spent.upload + spent.download + spent.initial_download + spent.resync) / clients,
    )


@dataclass
class Account:
    """Bytes of a whole run over all clients, and of the first base of its adapt phase."""

    base: int = 0
    participations: int = 0
    upload: int = 0
    download: int = 0
    warmup: int = 0
    initial_download: int = 0
    resync: int = 0


def account(
    training: TrainingConfig,
    sizes: Mapping[Phase, MessageSizes],
    drawn: Sequence[Ints],
    clients: int,
    coded: int | None = None,
) -> Account:
    """Return what a whole run sends.

    Parameters
    ----------
    coded
        Bytes of the pretrained base where codes stand for its rows.
    """
    adapt, spent = sizes["adapt"], Account()
    phase: Phase = "warmup" if training.warmup_rounds else "adapt"
    if phase == "warmup":
        first, spent.base = adapt.encoded_snapshot, adapt.encoded_base
    elif coded is not None and adapt.base:
        first, spent.base = adapt.coded_snapshot(coded), coded
    else:
        first, spent.base = adapt.snapshot if adapt.base + adapt.subspace else 0, adapt.base
    steps: list[int] = []
    held = np.full(clients, -1, np.int64)
    for number, rows in enumerate(drawn):
        event = training.event_at(number)
        if event == "warmup_end":
            phase = "adapt"
        elif event == "refresh":
            steps.append(adapt.step)
        own = sizes[phase]
        assert own.upload is not None
        spent.participations += len(rows)
        spent.upload += own.upload * len(rows)
        broadcast = own.fresh if event or number == 0 else own.download
        spent.download += broadcast * len(rows)
        if phase == "warmup":
            spent.warmup += (own.upload + broadcast) * len(rows)
            continue
        current = adapt.snapshot if steps else first
        joining, behind = catch_up_bytes(held[rows], first, steps, current)
        spent.initial_download += int(joining.sum())
        spent.resync += int(behind.sum())
        held[rows] = len(steps)
    return spent
