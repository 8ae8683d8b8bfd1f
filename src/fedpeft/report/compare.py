"""Runs of one split held against one another: what each reached and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedpeft.errors import InputError
from fedpeft.records.result import Evaluated, Holdout
from fedpeft.report.runs import (
    Point,
    Run,
    common_baselines,
    common_part,
    labels,
    left_out_baselines,
)
from fedpeft.report.statistics import Interval
from fedpeft.report.verdicts import (
    METRICS,
    OVERALL,
    RANKINGS,
    VERDICTS,
    Score,
    Verdict,
    difference,
    overall,
    pairing,
)
from fedpeft.report.warnings import warnings

TARGET_SHARE = 0.95
"""The default target, as a share of the reference run's final validation NDCG@10."""
_BASELINES = {
    "popularity": "Popularity",
    "ials": "iALS",
    "ease": "EASE",
    "centralised_mf": "Centralised MF",  # of earlier versions
}


@dataclass(frozen=True)
class Row:
    """One run, or one baseline (all byte fields None).

    Attributes
    ----------
    ndcg10_full
        NDCG@10 against all items, or None where it was not computed.
    ndcg10, hr10
        Metrics against the sampled negatives.
    round_bytes
        Upload plus download of one client in one adapt round, in bytes.
    total_bytes
        Everything that crossed the network, mean over clients, in bytes.
    target_bytes
        Cumulative bytes of the mean client at the first evaluation that reached the target; None
        if none did.
    percent_of_full
        `total_bytes` in percent of the full table's run; None without such a run.
    differences
        By metric, its value less that of the reference; empty for the reference itself.
    verdict
        What they say together; None for the reference itself.
    short_users
        Users with fewer sampled negatives than asked for.
    """

    label: str
    ndcg10_full: float | None
    ndcg10: float
    hr10: float
    round_bytes: float | None = None
    total_bytes: float | None = None
    target_bytes: float | None = None
    percent_of_full: float | None = None
    differences: Mapping[str, Interval] = field(default_factory=dict)
    verdict: Verdict | None = None
    short_users: int = 0


@dataclass(frozen=True)
class Comparison:
    """Rows and baselines in the order given, and what "target" and "% of full" refer to.

    Attributes
    ----------
    part
        The part the metrics are of: test, or validation where a run has not read test.
    warnings
        What forbids taking the table as it stands, a sentence each.
    left_out
        Why a baseline is missing, a sentence each.
    """

    rows: Sequence[Row]
    baselines: Sequence[Row]
    part: Holdout
    target: float
    target_source: str
    full_label: str | None
    reference_label: str
    same_split: bool
    warnings: Sequence[str]
    left_out: Sequence[str] = ()

    def notes(self) -> list[str]:
        """Return the sentences that belong under the table, the warnings first."""
        said = [
            *self.warnings,
            f"Figures are of the {self.part} part. {RANKINGS} 1 MB is 1,000,000 bytes, both "
            "directions together.",
            f"Target: validation NDCG@10 sampled of {self.target:.4f}, {self.target_source}; MB to "
            "target counts to the first evaluation that reached it.",
        ]
        said += self.left_out
        if self.full_label is not None:
            said.append(f"% of full is MB / client in percent of {self.full_label}.")
        gaps = [gap for row in self.rows for gap in row.differences.values()]
        if gaps:
            said.append(
                f"Verdicts are against {self.reference_label}, {pairing(gaps)}. {VERDICTS} "
                f"{OVERALL} Seeds vary as well, by how much one run of each does not tell."
            )
        return said


def require_same_split(runs: Sequence[Run], allow_different_splits: bool = False) -> bool:
    """Return whether all runs used one split.

    Raises
    ------
    InputError
        If there is no run, or if the splits differ and that was not allowed.
    """
    if not runs:
        raise InputError("nothing to report: name at least one run folder")
    first = runs[0]
    other = next(
        (r for r in runs if r.result.split_fingerprint != first.result.split_fingerprint), None
    )
    if other is not None and not allow_different_splits:
        raise InputError(
            f"{other.folder} used another split ({other.result.split_fingerprint[:12]}) than "
            f"{first.folder} ({first.result.split_fingerprint[:12]}), so their numbers are not "
            "comparable; --different-splits lists them all the same"
        )
    return other is None


def comparison(
    runs: Sequence[Run], target: float | None = None, *, allow_different_splits: bool = False
) -> Comparison:
    """Compare runs of one split.

    Parameters
    ----------
    target
        Validation NDCG@10 (sampled negatives) for "MB to target"; by default `TARGET_SHARE` of the
        final value of the full table's run, or of the first run where there is none.
    allow_different_splits
        List runs of different splits together; baselines are then left out.

    Raises
    ------
    InputError
        If there is no run, the splits differ, or the target is not in (0, 1].
    """
    same_split = require_same_split(runs, allow_different_splits)
    names = labels(runs)
    full = next((i for i, run in enumerate(runs) if run.is_full), None)
    reference = full or 0
    source = "as asked for"
    if target is None:
        final = runs[reference].result.metrics.validation.sampled["ndcg@10"]
        target = TARGET_SHARE * final
        source = f"{TARGET_SHARE:.0%} of the final {final:.4f} of {names[reference]}"
    elif not 0 < target <= 1:
        raise InputError(f"target = {target}: a validation NDCG@10 lies in (0, 1]")
    full_bytes = None if full is None else runs[full].result.bytes.total_per_client_mean
    baselines = common_baselines(runs) if same_split else {}
    part = common_part(runs)
    rows = [
        _row(run, part, name, target, full_bytes) for run, name in zip(runs, names, strict=True)
    ]
    if same_split:
        rows = [
            _compared(row, run, rows[reference], runs[reference], part)
            for row, run in zip(rows, runs, strict=True)
        ]
    return Comparison(
        rows=rows,
        baselines=[
            _scores_row(baseline_label(name), both.of(part)) for name, both in baselines.items()
        ],
        part=part,
        target=target,
        target_source=source,
        full_label=None if full is None else names[full],
        reference_label=names[reference],
        same_split=same_split,
        warnings=warnings(runs, part, same_split=same_split),
        left_out=left_out_baselines(runs) if same_split else [],
    )


def _compared(row: Row, run: Run, to: Row, reference: Run, part: Holdout) -> Row:
    """Return a row with its differences to that of the reference."""
    if run is reference:
        return row
    found = {}
    for name in METRICS:
        column, gap = f"{part}.{name}", None
        values = [each.result.metrics.of(part).metric(name) for each in (run, reference)]
        sides = [
            {0: Score(value, each.gains.get(column))}
            for value, each in zip(values, (run, reference), strict=True)
            if value is not None
        ]
        if len(sides) == 2 and (gap := difference(*sides)) is not None:
            found[name] = gap
    share = row.total_bytes / to.total_bytes if row.total_bytes and to.total_bytes else None
    return replace(row, differences=found, verdict=overall(found, share))


def bytes_to_target(curve: Sequence[Point], target: float) -> float | None:
    """Return the cumulative bytes of the mean client when validation NDCG@10 reached `target`."""
    return next((point.bytes_per_client for point in curve if point.ndcg >= target), None)


def baseline_label(name: str) -> str:
    """Return what a reader calls a baseline."""
    return _BASELINES.get(name, name.replace("_", " "))


def _scores_row(label: str, scores: Evaluated) -> Row:
    return Row(
        label,
        scores.full.get("ndcg@10"),
        scores.sampled["ndcg@10"],
        scores.sampled["hr@10"],
        short_users=scores.short_users or 0,
    )


def _row(run: Run, part: Holdout, label: str, target: float, full_bytes: float | None) -> Row:
    sent = run.result.bytes
    return replace(
        _scores_row(label, run.result.metrics.of(part)),
        round_bytes=sent.upload_per_client_round + sent.download_per_client_round,
        total_bytes=sent.total_per_client_mean,
        target_bytes=bytes_to_target(run.curve, target),
        percent_of_full=(100 * sent.total_per_client_mean / full_bytes if full_bytes else None),
    )
