"""What a run folder holds, read and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, Field, ValidationError

from fedpeft.errors import ArtifactError
from fedpeft.files import read_json
from fedpeft.report.record import Bytes, Costs
from fedpeft.report.record import Record as _Record
from fedpeft.report.users import Gains, read_gains

HEADLINE = ("hr@10", "ndcg@10")
"""Metrics every evaluation has."""


def _with_headline(scores: dict[str, float]) -> dict[str, float]:
    for name in HEADLINE:
        if name not in scores:
            raise ValueError(f"has no {name!r}, only {', '.join(sorted(scores)) or 'nothing'}")
    return scores


class Scores(_Record):
    """Metric values by lower-case name, for example ``ndcg@10``, each in [0, 1]."""

    sampled: Annotated[dict[str, float], AfterValidator(_with_headline)]
    """Against the sampled negatives; holds at least `HEADLINE`."""
    full: dict[str, float] = Field(default_factory=dict)
    """Against all items."""


Part = Literal["validation", "test"]


class Parts(_Record):
    """Scores on the two held-out parts."""

    validation: Scores
    test: Scores | None = None
    """A run with ``evaluation.test = false`` has none."""

    def of(self, part: Part) -> Scores:
        """Return the scores on a part, which must have been read."""
        scores = getattr(self, part)
        assert isinstance(scores, Scores)
        return scores


class Floor(Parts):
    """Scores of a floor, which is fitted only for runs that read test."""

    test: Scores


class DatasetFacts(_Record):
    """The data set's name and size after reading."""

    name: str
    users: int
    items: int
    interactions: int


class ClientBytes(_Record):
    """What one client sent and received, in bytes."""

    upload_per_client_round: Bytes
    """Sent by one client in one adapt round in which it takes part."""
    download_per_client_round: Bytes
    """Received by one client in one adapt round in which it takes part."""
    one_off_per_client: Bytes
    """Received once by a client that joins the adapt phase: base embedding, codes, hash seeds."""
    warmup_per_client: Bytes
    """Both directions, all warm-up rounds, mean over all clients."""
    catch_up_per_client: Bytes
    """Received because merges were missed, mean over all clients."""
    expansion_per_client: Bytes = 0.0
    """Messages of graph expansion, mean over all clients; 0 in folders of before it."""
    total_per_client_mean: Bytes
    """Everything over the whole run, both directions, mean over all clients."""


class Result(_Record):
    """``result.json``: what ran and how it ended."""

    name: str
    config: dict[str, Any]
    seed: int
    commit: str | None
    made_by: str
    split_fingerprint: str
    dataset: DatasetFacts
    rounds: int
    seconds: float
    backend: str
    metrics: Parts
    floors: dict[str, Floor]
    bytes: ClientBytes
    items: dict[str, Any]
    """What pretraining reported: reconstruction error, latent variance, and so on."""
    cost: Costs | None = None
    """Runs of earlier versions have none."""


class Evaluation(_Record):
    """One line of ``metrics.jsonl``."""

    round: int
    phase: Literal["warmup", "adapt"]
    validation: Scores
    train_loss: float | None
    bytes_per_client: Bytes
    """Cumulative, both directions, mean over all clients."""
    seconds: float


class Point(NamedTuple):
    """One point of a learning curve.

    Attributes
    ----------
    bytes_per_client
        Cumulative, both directions, mean over all clients.
    ndcg
        Validation NDCG@10 against the sampled negatives.
    """

    round: int
    bytes_per_client: float
    ndcg: float


class LedgerRound(_Record):
    """One line of ``ledger.jsonl``; bytes are totals of the round over all clients."""

    round: int
    phase: Literal["warmup", "adapt"]
    clients: int
    upload: Bytes
    download: Bytes
    one_off: Bytes
    catch_up: Bytes
    expansion: Bytes = 0.0
    """Messages of graph expansion; 0 for backbones without one, and in folders of before it."""
    bytes_per_client: Bytes
    """Cumulative, both directions, mean over all clients."""
    event: Literal["refresh", "warmup_end"] | None


@dataclass(frozen=True)
class Run:
    """Everything a report needs of one run folder; lines are in the order of their rounds."""

    folder: Path
    result: Result
    evaluations: Sequence[Evaluation]
    ledger: Sequence[LedgerRound]
    gains: Mapping[str, Gains] = field(default_factory=dict)
    """NDCG@10 of each user by part, where the run has kept it."""

    @property
    def curve(self) -> list[Point]:
        """The learning curve."""
        return _curve(self.evaluations)

    @property
    def is_full(self) -> bool:
        """Whether the whole item table travels, so that others are compared with this run."""
        adapter = self.result.config.get("adapter")
        return isinstance(adapter, dict) and adapter.get("kind") == "full"


def read_run(path: Path) -> Run:
    """Read a run folder.

    Raises
    ------
    ArtifactError
        If the folder or one of ``result.json``, ``metrics.jsonl`` and ``ledger.jsonl`` is missing,
        is not JSON, lacks a key or holds a value out of range.
    """
    if not path.is_dir():
        raise ArtifactError(f"{path} is not a run folder: there is no such folder")
    return Run(
        folder=path,
        result=read_result(path),
        evaluations=_read_lines(Evaluation, path / "metrics.jsonl"),
        ledger=_read_lines(LedgerRound, path / "ledger.jsonl"),
        gains=read_gains(path),
    )


def read_result(path: Path) -> Result:
    """Read the result of a run folder alone; raises `ArtifactError` as `read_run`."""
    return _check(Result, read_json(path / "result.json"), f"{path / 'result.json'}")


def read_curve(path: Path) -> list[Point]:
    """Read the learning curve of a run folder alone; raises `ArtifactError` as `read_run`."""
    return _curve(_read_lines(Evaluation, path / "metrics.jsonl"))


def _curve(evaluations: Sequence[Evaluation]) -> list[Point]:
    return [
        Point(line.round, line.bytes_per_client, line.validation.sampled["ndcg@10"])
        for line in evaluations
    ]


def common_part(runs: Sequence[Run]) -> Part:
    """Return the part to compare runs on: test, or validation where one has not read test."""
    return "validation" if any(run.result.metrics.test is None for run in runs) else "test"


def check_floors(value: Any, where: str) -> dict[str, Floor]:
    """Return floors as a result has them; raises `ArtifactError` where they are of no use."""
    if not isinstance(value, dict):
        raise ArtifactError(f"{where} is no table of floors")
    return {name: _check(Floor, floor, f"{where}, {name}") for name, floor in value.items()}


def common_floors(runs: Sequence[Run]) -> dict[str, Floor]:
    """Return the floors of runs on one split; each run knows those it was asked for."""
    found: dict[str, Floor] = {}
    for run in runs:
        found = {**run.result.floors, **found}
    return found


def labels(runs: Sequence[Run]) -> list[str]:
    """Return one distinct label per run: its name, with the seed or the folder where needed."""
    names = [run.result.name for run in runs]
    if _repeats(names):
        names = [
            f"{name}, seed {run.result.seed}" if names.count(name) > 1 else name
            for name, run in zip(names, runs, strict=True)
        ]
    if _repeats(names):
        names = [
            f"{name}, {run.folder}" if names.count(name) > 1 else name
            for name, run in zip(names, runs, strict=True)
        ]
    if _repeats(names):
        raise ArtifactError(f"run folder {runs[_repeats(names) - 1].folder} is given twice")
    return names


def _repeats(names: Sequence[str]) -> int:
    """Return the one-based position of the first name that occurred before, or 0."""
    return next((i + 1 for i, name in enumerate(names) if name in names[:i]), 0)


_R = TypeVar("_R", bound=_Record)
_Line = TypeVar("_Line", Evaluation, LedgerRound)


def _check(model: type[_R], value: Any, where: str) -> _R:
    """Validate `value` as `model`; its first problem becomes one sentence."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise ArtifactError(f"{where} has no key {key!r}") from None
        if first["type"] == "value_error":  # raised by a validator of ours
            raise ArtifactError(f"{where}: {key!r} {first['ctx']['error']}") from None
        said = first["msg"][0].lower() + first["msg"][1:]
        subject = f"{key!r} = {first['input']!r}" if key else "the content"
        raise ArtifactError(f"{where}: {subject}: {said}") from None


def _read_lines(model: type[_Line], path: Path) -> tuple[_Line, ...]:
    """Read one record per line; rounds must not go back."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None
    records: list[_Line] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise ArtifactError(f"{path}, line {number} is not valid JSON: {error}") from None
        records.append(_check(model, value, f"{path}, line {number}"))
    for number, (before, after) in enumerate(pairwise(records), start=2):
        if after.round < before.round:
            raise ArtifactError(
                f"{path}, line {number} goes back from round {before.round} to {after.round}"
            )
    return tuple(records)
