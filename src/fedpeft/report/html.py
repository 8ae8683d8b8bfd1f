"""One HTML file that opens offline, and a picture for a README.

The charts are drawn here and put into the page as SVG, so the page runs no script at all: it opens
from a mail, prints, and follows the reader's light or dark setting.  What tooltips would have told
stands beside the lines and in the tables under the charts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from fedpeft.errors import InputError
from fedpeft.files import write_text
from fedpeft.report.bars import final_accuracy
from fedpeft.report.compare import comparison
from fedpeft.report.cost import COLUMNS as COST_COLUMNS
from fedpeft.report.cost import cost_table
from fedpeft.report.curves import learning_curves
from fedpeft.report.runs import Run, labels
from fedpeft.report.table import COLUMNS, cells, megabytes, verdict_table
from fedpeft.report.theme import DARK, LIGHT, PICTURE, TRAFFIC_DARK, TRAFFIC_LIGHT, save_png, to_svg
from fedpeft.report.traffic import TRAFFIC, traffic

WIDE, NARROW = 760, 336
"""Pixels of each chart's two drawings, for a desk and for a phone."""

MAX_ROWS = 20
"""Evaluations listed per run; ``metrics.jsonl`` has them all."""


def write_report(
    runs: Sequence[Run],
    path: Path,
    *,
    target: float | None = None,
    allow_different_splits: bool = False,
) -> None:
    """Write the report of one run, or the comparison of several, as one HTML file.

    Raises
    ------
    InputError
        As `fedpeft.report.compare.comparison`.
    """
    compared = comparison(runs, target, allow_different_splits=allow_different_splits)
    names = labels(runs)
    results = [run.result for run in runs]
    page = render(
        "report.html.j2",
        runs=list(zip(names, results, strict=True)),
        compared=compared,
        columns=COLUMNS,
        rows=[cells(row) for row in compared.rows],
        baselines=[cells(row) for row in compared.baselines],
        verdicts=verdict_table(compared),
        charts=_charts(runs, allow_different_splits),
        kinds=TRAFFIC,
        costs=cost_table(runs),
        cost_columns=COST_COLUMNS,
        evaluations=[
            (name, line)
            for name, run in zip(names, runs, strict=True)
            for line in _thinned(run.evaluations)
        ],
        pretraining=[
            (shared_by, _facts(json.loads(text)))
            for shared_by, text in _grouped(
                zip(names, (result.items for result in results), strict=True)
            )
        ],
        coded=any("codes" in result.items for result in results),
        configs=_grouped(zip(names, (result.config for result in results), strict=True)),
    )
    write_text(path, page)


def write_png(
    runs: Sequence[Run], path: Path, *, allow_different_splits: bool = False, scale: float = 2.0
) -> None:
    """Write accuracy against megabytes, all runs in one picture.

    Raises
    ------
    InputError
        As `fedpeft.report.compare.comparison`, or if no run has an evaluation to draw.
    """
    chart = learning_curves(
        runs,
        "megabytes",
        width=880,
        height=400,
        theme=PICTURE,
        title="Validation NDCG@10 against what one client sent and received",
        allow_different_splits=allow_different_splits,
    )
    if chart is None:
        raise InputError("nothing to draw: no run recorded an evaluation")
    save_png(chart, path, scale)


def render(template: str, **values: Any) -> str:
    """Fill one of this package's templates; all share one look."""
    environment = Environment(
        loader=FunctionLoader(_file),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["megabytes"] = megabytes
    environment.globals["colors"] = len(LIGHT)
    style = _palette() + _file("report.css")
    return environment.get_template(template).render(style=style, **values)


def _file(name: str) -> str:
    return (files("fedpeft.report") / name).read_text(encoding="utf-8")


def _palette() -> str:
    """Return the series colours as CSS variables."""
    light, dark = (
        "".join(f"--series-{i}:{color};" for i, color in enumerate(series))
        + "".join(f"--traffic-{i}:{color};" for i, color in enumerate(kinds))
        for series, kinds in ((LIGHT, TRAFFIC_LIGHT), (DARK, TRAFFIC_DARK))
    )
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _charts(runs: Sequence[Run], allow_different_splits: bool) -> Mapping[str, Any]:
    """Draw every chart twice; None stands for a chart without data."""
    curves = partial(learning_curves, runs, allow_different_splits=allow_different_splits)
    drawers: dict[str, Callable[..., Any]] = {
        "final": partial(final_accuracy, runs, allow_different_splits=allow_different_splits),
        "rounds": partial(curves, against="rounds"),
        "megabytes": partial(curves, against="megabytes"),
        "traffic": partial(traffic, runs),
    }
    return {name: twice(draw) for name, draw in drawers.items()}


def twice(draw: Callable[..., Any]) -> Mapping[str, str] | None:
    """Draw a chart for a desk and for a phone."""
    charts = draw(width=WIDE), draw(width=NARROW)
    if None in charts:
        return None
    return dict(zip(("wide", "narrow"), map(to_svg, charts), strict=True))


def _thinned(lines: Sequence[Any]) -> Sequence[Any]:
    """Return at most `MAX_ROWS` lines, evenly spaced, the last one among them."""
    if len(lines) <= MAX_ROWS:
        return lines
    return [lines[round(i * (len(lines) - 1) / (MAX_ROWS - 1))] for i in range(MAX_ROWS)]


def _facts(report: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten a nested report into (dotted key, text), numbers to four digits."""
    facts: list[tuple[str, str]] = []
    for key, value in report.items():
        if isinstance(value, Mapping):
            facts += _facts(value, f"{prefix}{key}.")
        else:
            values = value if isinstance(value, list) else [value]
            texts = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)
            facts.append((f"{prefix}{key}", ", ".join(texts)))
    return facts


def _grouped(named: Iterable[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, str]]:
    """Return (names, pretty JSON) of each distinct value, so that what runs share is told once."""
    groups: dict[str, list[str]] = {}
    for name, value in named:
        groups.setdefault(json.dumps(value, indent=2, sort_keys=True), []).append(name)
    return [(", ".join(names), text) for text, names in groups.items()]
