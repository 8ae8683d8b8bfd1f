"""Learning curves, against rounds or against megabytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fedpeft.report.compare import baseline_label, require_same_split
from fedpeft.report.lines import MEGABYTES, ROUNDS, Line, overlay
from fedpeft.report.runs import Run, common_baselines, labels
from fedpeft.report.theme import PAGE, Theme, styled


def learning_curves(
    runs: Sequence[Run],
    against: Literal["rounds", "megabytes"],
    *,
    width: int = 720,
    height: int = 320,
    theme: Theme = PAGE,
    title: str = "",
    allow_different_splits: bool = False,
) -> Any | None:
    """Draw validation NDCG@10 (sampled negatives) of all runs, with the baselines as rules.

    Parameters
    ----------
    against
        Rounds on a linear axis, or cumulative megabytes of the mean client on a logarithmic one.
    width, height
        Pixels; the width includes the labels at the right.

    Returns
    -------
    altair chart or None
        None when no run has an evaluation to show.
    """
    same_split = require_same_split(runs, allow_different_splits)
    curves = [
        Line(label, theme.color(i), theme.dash(i), points, points[-1][1])
        for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True))
        if (points := _points(run, against))
    ]
    if not curves:
        return None
    baselines = common_baselines(runs) if same_split else {}
    curves += [
        Line(baseline_label(name), theme.muted, [4, 4], [], parts.validation.sampled["ndcg@10"])
        for name, parts in baselines.items()
    ]
    chart = overlay(curves, ROUNDS if against == "rounds" else MEGABYTES, width, height)
    return styled(chart.properties(title=title) if title else chart, theme)


def _points(run: Run, against: Literal["rounds", "megabytes"]) -> list[tuple[float, float]]:
    """Return one (x, validation NDCG@10) per evaluation; zero bytes have no logarithm."""
    if against == "rounds":
        return [(point.round, point.ndcg) for point in run.curve]
    return [(p.bytes_per_client / 1e6, p.ndcg) for p in run.curve if p.bytes_per_client > 0]
