"""What keeps a reader from taking figures as they stand."""

from __future__ import annotations

from collections.abc import Sequence

from fedpeft.records.result import Holdout, shortage
from fedpeft.report.runs import Run, labels


def warnings(runs: Sequence[Run], part: Holdout, *, same_split: bool) -> list[str]:
    """Return a sentence for each problem of runs that stand beside one another on a part."""
    said = []
    if not same_split:
        said.append(
            "These runs do not share one split or data set: their numbers are not comparable."
        )
    found: dict[str, list[str]] = {}
    for run, name in zip(runs, labels(runs), strict=True):
        scores = run.result.metrics.of(part)
        table = run.result.config.get("evaluation")
        asked = table.get("negatives") if isinstance(table, dict) else None
        if scores.short_users:
            of = "" if scores.n_users is None else f" of {scores.n_users:,}"
            sentence = shortage(f"{scores.short_users:,}{of} users", asked)
            found.setdefault(sentence, []).append(name)
    for sentence, names in found.items():
        alone = len(names) == len(runs)
        said.append(sentence if alone else f"{', '.join(names)}: {sentence}")
    return said
