"""The headline table: what each run reached and what it cost, as text, JSON or for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from textwrap import wrap
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

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
from fedpeft.report.users import over_users
from fedpeft.report.warnings import warnings

TARGET_SHARE = 0.95
"""The default target, as a share of the reference run's final validation NDCG@10."""

COLUMNS = (
    "Run",
    "HR@10",
    "NDCG@10",
    "NDCG@10 full",
    "Bytes / client / round",
    "MB / client",
    "% of full",
    "MB to target",
)
"""Headings; HR@10 and the first NDCG@10 are against the sampled negatives."""

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
    hr10, ndcg10
        Metrics against the sampled negatives.
    ndcg10_full
        NDCG@10 against all items, or None where it was not computed.
    round_bytes
        Upload plus download of one client in one adapt round, in bytes.
    total_bytes
        Everything that crossed the network, mean over clients, in bytes.
    target_bytes
        Cumulative bytes of the mean client at the first evaluation that reached the target; None
        if none did.
    percent_of_full
        `total_bytes` in percent of the full table's run; None without such a run.
    difference
        `ndcg10` less that of the reference, paired over users; None for the reference itself, and
        where one of the two has not kept what its users got.
    short_users
        Users with fewer sampled negatives than asked for.
    """

    label: str
    hr10: float
    ndcg10: float
    ndcg10_full: float | None
    round_bytes: float | None = None
    total_bytes: float | None = None
    target_bytes: float | None = None
    percent_of_full: float | None = None
    difference: Interval | None = None
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
            f"HR@10 and NDCG@10 are on the {self.part} part against the sampled negatives, NDCG@10 "
            "full against all items; 1 MB is 1,000,000 bytes, both directions together.",
            f"Target: validation NDCG@10 of {self.target:.4f}, {self.target_source}; MB to target "
            "counts to the first evaluation that reached it.",
        ]
        said += self.left_out
        if self.full_label is not None:
            said.append(f"% of full is MB / client in percent of {self.full_label}.")
        told = [
            f"{row.label} {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
            for row in self.rows
            if (found := row.difference) is not None and found.low is not None
        ]
        if told:
            said.append(
                f"NDCG@10 against {self.reference_label}, paired over users, and its 95 % interval "
                f"over them: {'; '.join(told)}. An interval that contains zero leaves open which "
                "is better. Seeds vary as well, by how much one run of each does not tell."
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
            replace(row, difference=_over_users(run, runs[reference], part))
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


def _over_users(run: Run, reference: Run, part: Holdout) -> Interval | None:
    if run is reference or part not in run.gains or part not in reference.gains:
        return None
    return over_users(run.gains[part], reference.gains[part])


def bytes_to_target(curve: Sequence[Point], target: float) -> float | None:
    """Return the cumulative bytes of the mean client when validation NDCG@10 reached `target`."""
    return next((point.bytes_per_client for point in curve if point.ndcg >= target), None)


def baseline_label(name: str) -> str:
    """Return what a reader calls a baseline."""
    return _BASELINES.get(name, name.replace("_", " "))


def _scores_row(label: str, scores: Evaluated) -> Row:
    return Row(
        label,
        scores.sampled["hr@10"],
        scores.sampled["ndcg@10"],
        scores.full.get("ndcg@10"),
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


def cells(row: Row) -> list[str]:
    """Return a row as text, one cell per entry of `COLUMNS`."""
    is_baseline = row.total_bytes is None
    return [
        row.label,
        f"{row.hr10:.4f}",
        f"{row.ndcg10:.4f}",
        "-" if row.ndcg10_full is None else f"{row.ndcg10_full:.4f}",
        "-" if row.round_bytes is None else f"{row.round_bytes:,.0f}",
        "-" if row.total_bytes is None else megabytes(row.total_bytes),
        "-" if row.percent_of_full is None else f"{row.percent_of_full:.1f}",
        "-"
        if is_baseline
        else "not reached"
        if row.target_bytes is None
        else megabytes(row.target_bytes),
    ]


def megabytes(count: float) -> str:
    """Return bytes as megabytes (1,000,000 bytes), without the unit; few are not shown as none."""
    if 0 < count < 500:
        return "<0.001"
    return f"{count / 1e6:,.3f}" if count < 1e6 else f"{count / 1e6:,.2f}"


def as_rich(compared: Comparison) -> Table:
    """Return the table for a terminal; print `Comparison.notes` beside it."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    lines = [cells(row) for row in (*compared.rows, *compared.baselines)]
    for index, heading in enumerate(COLUMNS):
        # cells are never cut or broken; what a narrow terminal lacks is taken from the headings
        shown = [line[index] for line in lines]
        heading = heading.replace(" /", "\u00a0/")  # no stroke stands alone on a line
        width = max(map(len, [*shown, *heading.split(" ")]))
        table.add_column(
            "\n".join(wrap(heading, width)),
            justify="left" if index == 0 else "right",
            no_wrap=True,
        )
    for number, line in enumerate(lines):
        is_baseline = number >= len(compared.rows)
        end_section = number == len(compared.rows) - 1
        style = "dim" if is_baseline else None
        table.add_row(*map(escape, line), style=style, end_section=end_section)
    return table


def as_text(compared: Comparison) -> str:
    """Return the table as aligned Markdown, followed by its notes."""
    body = [
        [cell.replace("|", "\\|") for cell in cells(row)]
        for row in [*compared.rows, *compared.baselines]
    ]
    lines = [list(COLUMNS), *body]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [
        [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in [aligned[0], rule, *aligned[1:]])
    return table + "\n\n" + "\n".join(compared.notes()) + "\n"


def as_json(compared: Comparison) -> dict[str, Any]:
    """Return the table as values for JSON; bytes stay bytes."""
    return {
        "runs": [asdict(row) for row in compared.rows],
        "baselines": [asdict(row) for row in compared.baselines],
        "part": compared.part,
        "target": {"validation_ndcg@10": compared.target, "source": compared.target_source},
        "full": compared.full_label,
        "reference": compared.reference_label,
        "same_split": compared.same_split,
        "warnings": list(compared.warnings),
    }
