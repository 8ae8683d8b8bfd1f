"""The bytes of a run, counted by hand."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch

from fedpeft.protocol.encodings import CODECS
from fedpeft.protocol.traffic import Entry, Ledger, Prices
from fedpeft.testing import Toy
from fedpeft.testing.toy import GRADIENT
from toys import ADAPTERS, made_split, toy

N, K = 15, 6
BASE = 4 * N * K
START = {
    "float32": 4 * N * K,
    "float16": 2 * N * K,
    "int8": N * K + 4 * 2,
    "int4": N * K // 2 + 4 * 2,
}  # 90 values: 2 scales
LORA = 4 * (N * 3 + 3 * K)


def charge(ledger: Ledger, number: int, users: list[int], prices: Prices) -> Entry:
    return ledger.charge(number, "adapt", np.array(users, np.int64), prices, None)


def test_newcomers_pay_once_and_stragglers_catch_up() -> None:
    ledger = Ledger(4)
    prices = Prices(10, 10, 10, base=100, encoded_base=50, subspace=3)
    ledger.open_version(prices, None)
    entry = charge(ledger, 0, [0, 1], prices)
    assert (entry.upload, entry.download, entry.one_off, entry.catch_up) == (20, 20, 206, 0)
    entry = charge(ledger, 1, [0], prices)
    assert (entry.one_off, entry.catch_up) == (0, 0)

    ledger.close_version(prices)
    ledger.open_version(prices, "refresh")
    entry = charge(ledger, 2, [0, 2], prices)  # 0 steps once: merged payload + new subspace
    assert (entry.one_off, entry.catch_up) == (103, 13)

    for _ in range(2):
        ledger.close_version(prices)
        ledger.open_version(prices, "refresh")
    entry = charge(ledger, 3, [1, 2, 3], prices)  # 1 missed three merges, 2 missed two
    assert (entry.one_off, entry.catch_up) == (103, 39 + 26)
    assert ledger.held.tolist() == [1, 3, 3, 3]
    assert charge(ledger, 4, [1, 2, 3], prices).catch_up == 0

    paid = 2 * 20 + 2 * 10 + 2 * 20 + 2 * 30 + 2 * 30 + 206 + 103 + 103 + 13 + 65
    assert ledger.bytes_per_client == paid / 4


def test_the_base_is_fetched_where_it_is_smaller_than_what_was_missed() -> None:
    ledger = Ledger(1)
    prices = Prices(10, 10, 10, base=30, encoded_base=15, subspace=2)
    ledger.open_version(prices, None)
    charge(ledger, 0, [0], prices)
    paid = []
    for missed in (1, 2, 3, 4):
        for _ in range(missed):
            ledger.close_version(prices)
            ledger.open_version(prices, "refresh")
        paid.append(charge(ledger, missed, [0], prices).catch_up)
    assert paid == [12, 24, 32, 32]


def test_a_newcomer_starts_from_the_cheapest_table() -> None:
    """After a warm-up that is the narrow one of version 0, until too much was merged since."""
    ledger = Ledger(9)
    prices = Prices(10, 10, 10, base=100, encoded_base=50, subspace=2)
    ledger.open_version(prices, "warmup_end")
    paid = [charge(ledger, 0, [0], prices).one_off]
    for user in range(1, 6):
        ledger.close_version(prices)
        ledger.open_version(prices, "refresh")
        paid.append(charge(ledger, user, [user], prices).one_off)
    assert paid == [52, 64, 76, 88, 100, 102]
    assert ledger.summary(prices)["one_off_per_client"] == 52
    assert charge(ledger, 6, [0], prices).catch_up == 60  # five steps, 12 each


def test_subspaces_of_different_sizes_are_each_counted() -> None:
    ledger = Ledger(1)
    first, last = Prices(10, 10, 9, 1000, 1000, 1), Prices(20, 20, 19, 1000, 1000, 7)
    ledger.open_version(first, None)
    charge(ledger, 0, [0], first)
    ledger.close_version(first)
    ledger.open_version(Prices(20, 20, 19, 1000, 1000, 5), "refresh")
    ledger.close_version(last)
    ledger.open_version(last, "refresh")
    assert charge(ledger, 1, [0], last).catch_up == 9 + 5 + 19 + 7  # no backbone tensors


def test_who_was_away_needs_no_old_tensors_of_the_backbone() -> None:
    run = replace(toy("lora", "bpr", **GRADIENT), backbone=("fedncf", {"hidden": [7, 5]}))
    prices = run.simulation().server.prices
    shapes = {"A": torch.Size((15, 3)), "B": torch.Size((3, 6))}
    assert prices.merged == CODECS["float32"]().size(shapes) < prices.download


def test_warm_up_is_priced_apart() -> None:
    ledger = Ledger(5)
    prices = Prices(100, 100, 100, base=0, encoded_base=0, subspace=0)
    entry = ledger.charge(0, "warmup", np.array([0, 3]), prices, None)
    assert (entry.phase, entry.upload, entry.one_off) == ("warmup", 200, 0)
    assert ledger.totals.warmup == 400
    assert ledger.summary(prices)["warmup_per_client"] == 80
    assert ledger.held.tolist() == [-1] * 5


def test_an_expansion_is_part_of_the_total() -> None:
    ledger = Ledger(2)
    prices = Prices(10, 10, 10, base=0, encoded_base=0, subspace=0)
    entry = ledger.charge(0, "warmup", np.array([1]), prices, None, expansion=600)
    assert (entry.upload, entry.expansion, entry.bytes_per_client) == (10, 600, 310)
    assert ledger.summary(prices)["expansion_per_client"] == 300
    assert ledger.totals.warmup == 20
    again = Ledger(2)
    again.restore(ledger.state(), ledger.held)
    assert again.bytes_per_client == 310


def test_nobody_costs_nothing() -> None:
    ledger, prices = Ledger(0), Prices(10, 10, 10, 100, 50, 3)
    ledger.open_version(prices, None)
    assert charge(ledger, 0, [], prices).bytes_per_client == 0


def test_state_round_trip() -> None:
    ledger, prices = Ledger(2), Prices(10, 10, 10, 100, 50, 3)
    ledger.open_version(prices, "warmup_end")
    charge(ledger, 0, [0], prices)
    ledger.close_version(prices)
    ledger.open_version(prices, "refresh")
    again = Ledger(2)
    again.restore(ledger.state(), ledger.held)
    for users in ([0, 1], [1]):
        assert asdict(charge(again, 1, users, prices)) == asdict(charge(ledger, 1, users, prices))


def run(simulated: Toy, rounds: int) -> tuple[list[Entry], list[list[int]], Any]:
    simulation = simulated.simulation()
    cohorts = [simulation.sampler.draw(number).users.tolist() for number in range(rounds)]
    return [simulation.step().entry for _ in range(rounds)], cohorts, simulation


def test_full_table_by_hand() -> None:
    entries, cohorts, simulation = run(toy("full", cohort=0.25), 4)
    for number, (entry, cohort) in enumerate(zip(entries, cohorts, strict=True)):
        assert (entry.round, entry.phase, entry.clients) == (number, "adapt", 3)
        assert entry.upload == entry.download == 3 * BASE == 1080
        assert (entry.one_off, entry.catch_up, entry.event) == (0, 0, None)
        assert len(set(cohort)) == 3
    assert entries[-1].bytes_per_client == 4 * 2 * 1080 / 12
    assert simulation.ledger.summary(simulation.server.prices) == {
        "upload_per_client_round": BASE,
        "download_per_client_round": BASE,
        "one_off_per_client": 0,
        "warmup_per_client": 0,
        "catch_up_per_client": 0,
        "expansion_per_client": 0,
        "total_per_client_mean": 720,
    }


def test_lora_with_warm_up_refresh_and_absent_clients_by_hand() -> None:
    """Every client's own account, kept in plain Python."""
    lora = toy("lora", cohort=0.34, warmup_rounds=2, refresh_every=2)
    entries, cohorts, simulation = run(replace(lora, split=made_split([2] * 6, N)), 8)
    versions: dict[int, int] = {}
    total, version = 0, 0
    for number, (entry, cohort) in enumerate(zip(entries, cohorts, strict=True)):
        assert entry.clients == 2
        events = {2: "warmup_end", 4: "refresh", 6: "refresh"}
        assert entry.event == events.get(number)
        if number < 2:
            assert (entry.phase, entry.upload, entry.download) == ("warmup", 2 * BASE, 2 * BASE)
            assert entry.one_off == entry.catch_up == 0
            total += 4 * BASE
            continue
        version += number in (4, 6)
        assert (entry.phase, entry.upload, entry.download) == ("adapt", 2 * LORA, 2 * LORA)
        one_off = catch_up = 0
        for client in cohort:
            if client not in versions:
                one_off += BASE
            else:
                catch_up += min((version - versions[client]) * LORA, BASE)
            versions[client] = version
        assert (entry.one_off, entry.catch_up) == (one_off, catch_up)
        total += 4 * LORA + one_off + catch_up
    assert entries[-1].bytes_per_client == total / 6
    assert simulation.ledger.totals.catch_up > 0
    assert simulation.ledger.totals.warmup == 2 * 4 * BASE


@pytest.mark.parametrize(
    ("adapter", "mode", "payload", "base", "subspace"),
    [
        ("full", "peft", 4 * N * K, 0, 0),
        ("full", "compress", 4 * N * K, 0, 0),
        ("lora", "peft", LORA, BASE, 0),
        ("lora", "compress", LORA, 0, 0),
        ("hash", "peft", 4 * 8 * K, BASE, 8 * 2 * 2),  # h hashes, a and b, 8 bytes each
        ("hash", "compress", 4 * 8 * K, 0, 8 * 2 * 2),
        ("senet", "peft", 4 * (8 * K + 3 * 1 + 1 * 3), BASE, 8 * 3 * 2),
        ("rq", "peft", 4 * 2 * 4 * K, BASE, 8),  # 15 items x 2 levels x 2 bits = 60 bits
        ("rq", "compress", 4 * 2 * 4 * K, 0, 8),
    ],
)
def test_prices(adapter: str, mode: str, payload: int, base: int, subspace: int) -> None:
    simulation = toy(adapter, mode=mode).simulation()
    assert simulation.server.prices == Prices(payload, payload, payload, base, base, subspace)
    entry = simulation.step().entry
    assert entry.upload == entry.download == 6 * payload
    assert entry.one_off == 6 * (base + subspace)


@pytest.mark.parametrize(
    ("codes", "bytes_"), [(2, 4), (3, 8), (4, 8), (5, 12), (256, 30), (257, 34)]
)
def test_code_bytes_are_whole_bits_per_code(codes: int, bytes_: int) -> None:
    run_ = replace(toy("rq"), adapter=("rq", {"levels": 2, "codes": codes}))
    assert run_.simulation().server.prices.subspace == bytes_


@pytest.mark.parametrize("encoding", CODECS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_totals_are_the_sums_of_the_entries(adapter: str, encoding: str) -> None:
    phased = toy(adapter, cohort=0.25, warmup_rounds=2, refresh_every=2, encoding=encoding)
    entries, cohorts, simulation = run(phased, 8)
    totals = simulation.ledger.totals
    for key in ("upload", "download", "one_off", "catch_up", "expansion"):
        assert getattr(totals, key) == sum(getattr(entry, key) for entry in entries)
    warmup = [entry for entry in entries if entry.phase == "warmup"]
    assert totals.warmup == sum(entry.upload + entry.download for entry in warmup)
    joined = set().union(*cohorts[2:])
    held = START[encoding] if simulation.server.prices.base else 0
    newcomer = held + simulation.server.prices.subspace
    assert totals.one_off >= len(joined) * newcomer  # and what was merged before some joined
    assert simulation.ledger.summary(simulation.server.prices)["one_off_per_client"] == newcomer
    running = 0
    for entry in entries:
        running += entry.upload + entry.download + entry.one_off + entry.catch_up
        assert entry.bytes_per_client == pytest.approx(running / 12)


@pytest.mark.parametrize(("encoding", "payload"), [("float16", 2 * 63), ("int8", 63 + 4 * (1 + 1))])
def test_encoded_payloads_are_priced_as_encoded(encoding: str, payload: int) -> None:
    """LoRA's A has 45 values and B 18: one scale each as int8."""
    entries, _, simulation = run(toy("lora", encoding=encoding, refresh_every=2, cohort=1.0), 4)
    assert simulation.server.prices == Prices(payload, payload, payload, BASE, START[encoding], 0)
    assert entries[0].upload == 12 * payload
    assert entries[2].catch_up == 12 * payload  # everybody fetches the one merged payload


def test_download_may_be_narrower_than_upload() -> None:
    training = {"download_encoding": "int8", "refresh_every": 2, "cohort": 1.0}
    entries, _, simulation = run(toy("lora", **training), 4)
    narrow = 63 + 4 * (1 + 1)
    assert simulation.backend == "fused", "one rounded broadcast needs no copy per client"
    assert simulation.server.prices == Prices(LORA, narrow, narrow, BASE, START["int8"], 0)
    assert (entries[0].upload, entries[0].download) == (12 * LORA, 12 * narrow)
    assert entries[2].catch_up == 12 * narrow
    same = run(toy("lora", **training, encoding="int8"), 4)[2].server
    assert same.prices == Prices(narrow, narrow, narrow, BASE, START["int8"], 0)
