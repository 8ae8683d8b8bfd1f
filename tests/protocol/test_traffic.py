"""The bytes of a run, counted by hand: what the log adds up, and what whole rounds send."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from fedpeft.protocol.encodings import CODECS
from fedpeft.protocol.traffic import RoundTraffic, Traffic
from fedpeft.simulation import Simulation
from fedpeft.testing import Toy
from toys import ADAPTERS, made_split, toy

N, K = 15, 6
BASE = 4 * N * K
LORA = 4 * (N * 3 + 3 * K)
UPLOAD, BROADCAST, STEP, SNAPSHOT = 20, 44, 16, 49
"""Heads of the messages."""
PURPOSES = (
    "upload",
    "download",
    "initial_download",
    "resync",
    "expansion_up",
    "expansion_down",
)


def test_a_round_is_what_was_sent_in_it() -> None:
    traffic = Traffic(4)
    for nbytes in (10, 5):
        traffic.sent("upload", nbytes)
    traffic.sent("download", 20)
    traffic.sent("initial_download", 100)
    entry = traffic.close(0, "adapt", clients=3, rejected=1, event="refresh")
    assert asdict(entry) == {
        "round": 0,
        "phase": "adapt",
        "clients": 3,
        "rejected": 1,
        "upload": 15,
        "download": 20,
        "initial_download": 100,
        "resync": 0,
        "expansion_up": 0,
        "expansion_down": 0,
        "bytes_per_client": 135 / 4,
        "event": "refresh",
    }
    traffic.sent("resync", 7)
    traffic.sent("expansion_up", 8)
    traffic.sent("expansion_down", 9)
    entry = traffic.close(1, "adapt", 2, 0, None)
    assert (entry.upload, entry.resync, entry.bytes_per_client) == (0, 7, (135 + 24) / 4)
    assert (entry.expansion_up, entry.expansion_down) == (8, 9)
    assert traffic.totals.bytes == 159


def test_the_warm_up_is_counted_apart() -> None:
    traffic = Traffic(5)
    for number, phase in enumerate(("warmup", "warmup", "adapt")):
        traffic.sent("upload", 100)
        traffic.sent("download", 40)
        traffic.sent("expansion_up", 3)
        traffic.close(number, phase, 1, 0, None)
    assert traffic.totals.warmup == 2 * 140
    assert traffic.totals.upload == 300
    assert traffic.summary(0, 0, 0)["warmup_per_client"] == 2 * 140 / 5


def test_a_summary_is_per_client_of_the_population() -> None:
    traffic = Traffic(2)
    for place, purpose in enumerate(PURPOSES):
        traffic.sent(purpose, 10**place)  # type: ignore[arg-type]
    traffic.close(0, "adapt", 1, 0, None)
    assert traffic.summary(1.5, 2.5, 3.5) == {
        "upload_per_client_round": 1.5,
        "download_per_client_round": 2.5,
        "initial_download_per_client": 3.5,
        "warmup_per_client": 0,
        "resync_per_client": 500,
        "expansion_per_client": (10_000 + 100_000) / 2,
        "total_per_client_mean": 111_111 / 2,
    }


def test_a_round_that_was_broken_off_costs_nothing() -> None:
    traffic = Traffic(1)
    traffic.sent("upload", 10)
    traffic.forget()
    traffic.sent("download", 1)
    assert traffic.close(0, "adapt", 1, 0, None).upload == 0
    assert traffic.totals.bytes == 1


def test_nobody_costs_nothing() -> None:
    assert Traffic(0).close(0, "adapt", 0, 0, None).bytes_per_client == 0


def test_state_round_trip() -> None:
    traffic = Traffic(2)
    for place, purpose in enumerate(PURPOSES):
        traffic.sent(purpose, 10**place)  # type: ignore[arg-type]
    traffic.close(0, "warmup", 1, 0, None)
    again = Traffic(2)
    again.sent("upload", 99)  # of a round that the saved state knows nothing about
    again.restore(traffic.state())
    for log in (traffic, again):
        log.sent("resync", 7)
    one, two = (log.close(1, "adapt", 1, 0, None) for log in (traffic, again))
    assert one == two
    assert again.totals == traffic.totals


def run(simulated: Toy, rounds: int) -> tuple[list[RoundTraffic], list[list[int]], Simulation]:
    simulation = simulated.simulation()
    cohorts = [simulation.sampler.draw(number).rows.tolist() for number in range(rounds)]
    return [simulation.step().entry for _ in range(rounds)], cohorts, simulation


def test_full_table_by_hand() -> None:
    entries, cohorts, simulation = run(toy("full", cohort=0.25), 4)
    for number, (entry, cohort) in enumerate(zip(entries, cohorts, strict=True)):
        assert (entry.round, entry.phase, entry.clients) == (number, "adapt", 3)
        assert (entry.upload, entry.download) == (3 * (BASE + UPLOAD), 3 * (BASE + BROADCAST))
        assert (entry.initial_download, entry.resync, entry.event) == (0, 0, None)
        assert (entry.expansion_up, entry.expansion_down, entry.rejected) == (0, 0, 0)
        assert len(set(cohort)) == 3
    both = 2 * BASE + UPLOAD + BROADCAST
    assert entries[-1].bytes_per_client == 4 * 3 * both / 12
    assert simulation.bytes_summary() == {
        "upload_per_client_round": BASE + UPLOAD,
        "download_per_client_round": BASE + BROADCAST,
        "initial_download_per_client": 0,
        "warmup_per_client": 0,
        "resync_per_client": 0,
        "expansion_per_client": 0,
        "total_per_client_mean": both,
    }


def test_lora_with_warm_up_refresh_and_absent_clients_by_hand() -> None:
    """Every client's own account, kept in plain Python."""
    lora = toy("lora", cohort=0.34, warmup_rounds=2, refresh_every=2)
    entries, cohorts, simulation = run(replace(lora, split=made_split([2] * 6, N)), 8)
    versions: dict[int, int] = {}
    total, version, whole = 0, 0, BASE + SNAPSHOT
    for number, (entry, cohort) in enumerate(zip(entries, cohorts, strict=True)):
        payload = BASE if number < 2 else LORA
        assert entry.clients == 2
        assert (entry.upload, entry.download) == (2 * (payload + UPLOAD), 2 * (payload + BROADCAST))
        events = {2: "warmup_end", 4: "refresh", 6: "refresh"}
        assert entry.event == events.get(number)
        total += 4 * payload + 2 * 64
        if number < 2:
            assert entry.phase == "warmup"
            assert entry.initial_download == entry.resync == 0
            continue
        version += number in (4, 6)
        assert entry.phase == "adapt"
        initial = resync = 0
        for client in cohort:
            if client not in versions:
                initial += whole
            else:
                resync += min((version - versions[client]) * (LORA + STEP), whole)
            versions[client] = version
        assert (entry.initial_download, entry.resync) == (initial, resync)
        total += initial + resync
    assert entries[-1].bytes_per_client == total / 6
    assert simulation.traffic.totals.resync > 0
    assert simulation.traffic.totals.warmup == 2 * 2 * (2 * BASE + 64)


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_totals_are_the_sums_of_the_entries(adapter: str, encoding: str) -> None:
    phased = toy(adapter, cohort=0.25, warmup_rounds=2, refresh_every=2, encoding=encoding)
    entries, cohorts, simulation = run(phased, 8)
    totals = simulation.traffic.totals
    for key in PURPOSES:
        assert getattr(totals, key) == sum(getattr(entry, key) for entry in entries)
    warmup = [entry for entry in entries if entry.phase == "warmup"]
    assert totals.warmup == sum(entry.upload + entry.download for entry in warmup)
    joined, first = set().union(*cohorts[2:]), len(simulation.state.first.to_bytes())
    assert simulation.bytes_summary()["initial_download_per_client"] == first
    most = len(simulation.server.snapshot(simulation.state).to_bytes())
    fewest = len(joined) * min(first, most)  # and what was merged before some joined
    assert fewest <= totals.initial_download <= len(joined) * max(first, most)
    running = 0
    for entry in entries:
        running += entry.upload + entry.download + entry.initial_download + entry.resync
        assert entry.bytes_per_client == pytest.approx(running / 12)


@pytest.mark.parametrize(("encoding", "payload"), [("float16", 2 * 63), ("int8", 63 + 4 * (1 + 1))])
def test_encoded_messages_are_counted_as_encoded(encoding: str, payload: int) -> None:
    """LoRA's A has 45 values and B 18: one scale each as int8."""
    entries, _, _ = run(toy("lora", encoding=encoding, refresh_every=2, cohort=1.0), 4)
    assert entries[0].upload == 12 * (payload + UPLOAD)
    assert entries[0].download == 12 * (payload + BROADCAST)
    assert entries[2].resync == 12 * (payload + STEP)  # everybody fetches the one merged payload


def test_download_may_be_narrower_than_upload() -> None:
    training = {"download_encoding": "int8", "refresh_every": 2, "cohort": 1.0}
    entries, _, simulation = run(toy("lora", **training), 4)
    narrow = 63 + 4 * (1 + 1)
    assert simulation.backend == "fused", "one rounded broadcast needs no copy per client"
    assert entries[0].upload == 12 * (LORA + UPLOAD)
    assert entries[0].download == 12 * (narrow + BROADCAST)
    assert entries[2].resync == 12 * (narrow + STEP)
    both, _, _ = run(toy("lora", **training, encoding="int8"), 4)
    assert both[0].upload == 12 * (narrow + UPLOAD)
    assert both[0].download == entries[0].download


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_lengths_are_those_of_the_messages(adapter: str) -> None:
    """The sequential backend sends bytes, the fast ones count them."""
    run_ = toy(adapter, cohort=0.5, warmup_rounds=1, refresh_every=2, encoding="int8")
    counted, sent = run_.simulation("vmap"), run_.simulation("sequential")
    for _ in range(5):
        assert counted.step().entry == sent.step().entry
