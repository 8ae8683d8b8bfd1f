"""Run folders, read for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fedpeft.errors import ArtifactError
from fedpeft.foreign import printable, require_plain
from fedpeft.records import Baseline, Evaluation, Result, TrafficRound, Users, read_log
from fedpeft.records.result import Holdout
from fedpeft.records.users import Gains
from fedpeft.report.verdicts import CURVE, MAIN


class Point(NamedTuple):
    """One point of a learning curve.

    Attributes
    ----------
    bytes_per_client
        Cumulative, both directions, mean over all clients.
    ndcg, hr
        Validation NDCG@10 and HR@10 against the sampled negatives; earlier records have no HR@10.
    ndcg_full
        Validation NDCG@10 against all items; None where a run did not rank them that often.
    """

    round: int
    bytes_per_client: float
    ndcg: float
    hr: float | None = None
    ndcg_full: float | None = None

    def metric(self, name: str) -> float | None:
        """Return one of `METRICS`."""
        return {MAIN: self.ndcg_full, CURVE: self.ndcg}.get(name, self.hr)


@dataclass(frozen=True)
class Run:
    """Everything a report needs of one run folder; lines are in the order of their rounds."""

    folder: Path
    result: Result
    evaluations: Sequence[Evaluation]
    traffic: Sequence[TrafficRound]
    gains: Mapping[str, Gains] = field(default_factory=dict)
    """What each user got, by column such as ``test.full.ndcg@10``, where the run has kept it."""

    @property
    def curve(self) -> list[Point]:
        """The learning curve."""
        return _curve(self.evaluations)

    @property
    def is_full(self) -> bool:
        """Whether the whole item table travels, so that others are compared with this run."""
        adapter = self.result.config.get("adapter")
        return isinstance(adapter, dict) and adapter.get("kind") == "full"


def read_run(path: Path | str) -> Run:
    """Read a run folder.

    Raises
    ------
    ArtifactError
        If the folder or one of ``result.json``, ``metrics.jsonl`` and ``traffic.jsonl`` is missing,
        is not JSON, lacks a key or holds a value out of range, or the folder holds links or pipes.
    """
    path = Path(path)
    if not path.is_dir():
        raise ArtifactError(f"{path} is not a run folder: there is no such folder")
    require_plain(path)
    return Run(
        folder=path,
        result=Result.read(path),
        evaluations=read_log(Evaluation, path),
        traffic=read_log(TrafficRound, path),
        gains=read_gains(path),
    )


def read_gains(folder: Path) -> dict[str, Gains]:
    """Read what each user of a run folder got; nothing for a run of before it was kept."""
    users = Users.read(folder)
    return {} if users is None else users.gains(folder)


def read_curve(path: Path) -> list[Point]:
    """Read the learning curve of a run folder alone; raises `ArtifactError` as `read_run`."""
    return _curve(read_log(Evaluation, path))


def _curve(evaluations: Sequence[Evaluation]) -> list[Point]:
    return [
        Point(
            line.round,
            line.bytes_per_client,
            line.validation.sampled["ndcg@10"],
            line.validation.sampled["hr@10"],
            line.validation.full.get("ndcg@10"),
        )
        for line in evaluations
    ]


def common_part(runs: Sequence[Run]) -> Holdout:
    """Return the part to compare runs on: test, or validation where one has not read test."""
    return "validation" if any(run.result.metrics.test is None for run in runs) else "test"


def common_baselines(runs: Sequence[Run]) -> dict[str, Baseline]:
    """Return the baselines of runs on one split; each run knows those it was asked for."""
    found: dict[str, Baseline] = {}
    for run in runs:
        found = {**run.result.baselines, **found}
    return found


def left_out_baselines(runs: Sequence[Run]) -> list[str]:
    """Return what runs tell of baselines that they lack, each sentence once."""
    told = (sentence for run in runs for sentence in run.result.baselines_left_out or ())
    return list(dict.fromkeys(told))


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
            f"{name}, {printable(str(run.folder))}" if names.count(name) > 1 else name
            for name, run in zip(names, runs, strict=True)
        ]
    if _repeats(names):
        raise ArtifactError(f"run folder {runs[_repeats(names) - 1].folder} is given twice")
    return names


def _repeats(names: Sequence[str]) -> int:
    """Return the one-based position of the first name that occurred before, or 0."""
    return next((i + 1 for i, name in enumerate(names) if name in names[:i]), 0)
