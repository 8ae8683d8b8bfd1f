"""Every key of the configuration acts or is refused: a walk over all tables and all parts.

In each of some small runs each key in turn gets another value.  Either that is refused, because the
key would not act there, or something changes, if only a bit: the split, the items, what is trained,
what it costs or what is scored.  And every key acts in at least one of the runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fedpeft.adapters import adapters
from fedpeft.backbones import backbones
from fedpeft.config import merge
from fedpeft.errors import ConfigError, DataError
from fedpeft.experiment import Prepared, RunConfig, build, prepare, resolve
from fedpeft.losses import losses
from fedpeft.simulation import RunOptions

from .keys import Key, keys
from .walked import OWN, RUNS, tables, write_files

EXCEPT = {
    "evaluation.every": "it acts on what is written down only, and so do the next two",
    "evaluation.test": "",
    "evaluation.centralised_baseline": "",
}
"""Keys that are not walked, and why."""
KNOWN_LATE = {
    "plain table": ("training.sparse_eps",),
    "table": ("training.sparse_eps",),
    "table in its order": ("training.sparse_eps", "data.columns.text"),
}
"""Keys whose part only the data or an encoder know: dense data, vectors instead of texts."""
REFUSED = (
    "would not act",
    "items.base_codes",
    "training.upload = ",
    "has nothing to hide",
    "has nothing to fit",
    "needs loss.kind = 'ials'",
    "never trains clients",
    "= 'newton'",
)
"""What a refusal may say; others would mean that the value here is no good."""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)


def effect(run: RunConfig, before: Prepared | None = None) -> str:
    """Return a fingerprint of all that a run computes, or the sentence that refuses its data."""
    try:
        prepared = prepare(run)
    except DataError as error:
        return str(error)
    parts = _identity(prepared)
    if before is not None and parts != _identity(before):
        return " ".join(parts)  # what is trained on other data need not be looked at
    simulation = build(run, prepared.split, prepared.items, RunOptions())
    found = [simulation.step().loss for _ in range(run.training.rounds)]
    scorer = simulation.scorer(prepared.split.before("validation"))
    scores = scorer(torch.arange(prepared.split.n_users))
    digest = hashlib.sha256(scores.numpy().tobytes())
    for name, tensor in sorted(simulation.state.payload.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return f"{digest.hexdigest()} {json.dumps([parts, found, simulation.bytes_summary()])}"


def _identity(prepared: Prepared) -> list[str]:
    titles = " ".join(prepared.dataset.catalogue.titles)
    return [prepared.split.fingerprint, prepared.items.fingerprint, titles]


def nested(key: Key, value: Any) -> dict[str, Any]:
    for name in reversed(key):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def walk(name: str, only: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield a run's keys, and of each whether it acts, is refused, or what is wrong."""
    settings = tables(name)
    run = resolve(settings)
    prepared, usual = prepare(run), effect(run)
    for key, value in keys(run):
        dotted = ".".join(key)
        if (
            dotted in EXCEPT
            or dotted in KNOWN_LATE.get(name, ())
            or (only and not dotted.startswith(only))
        ):
            continue
        try:
            changed = resolve(merge(settings, nested(key, value)))
            acts = effect(changed, prepared) != usual
            yield dotted, "acts" if acts else f"{value!r} changes nothing and is not refused"
        except ConfigError as error:
            meant = any(words in str(error) for words in REFUSED)
            yield dotted, "refused" if meant else f"{value!r} is refused: {error}"


@pytest.mark.parametrize("name", RUNS)
def test_keys_act_or_are_refused(name: str) -> None:
    found = dict(walk(name, OWN.get(name, ("adapter",))))
    assert {k: said for k, said in found.items() if said not in ("acts", "refused")} == {}
    assert "acts" in found.values()


@pytest.mark.slow
def test_every_key_acts_somewhere() -> None:
    acting: dict[str, bool] = {}
    for name in RUNS:
        for key, said in walk(name):
            assert said in ("acts", "refused"), f"{name}: {key} = {said}"
            acting[key] = acting.get(key, False) or said == "acts"
    assert [key for key, acts in acting.items() if not acts] == []


def test_a_run_of_each_part() -> None:
    runs = [resolve(tables(name)) for name in RUNS]
    assert {run.adapter.kind for run in runs} == set(adapters.names())
    assert {run.backbone.kind for run in runs} == set(backbones.names())
    assert {run.loss.kind for run in runs} == set(losses.names())
