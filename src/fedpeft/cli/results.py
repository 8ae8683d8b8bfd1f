"""`fedpeft evaluate`, `compare` and `recommend`: what run folders are good for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fedpeft.cli.console import print_json, say
from fedpeft.cli.tables import print_note, print_table
from fedpeft.errors import ConfigError
from fedpeft.evaluation import Report
from fedpeft.experiment import evaluate_run, recommend, reopen
from fedpeft.records.result import shortage

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command(name="evaluate")(evaluate)
    app.command(name="compare")(compare)
    app.command(name="recommend")(recommend_items)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    part: Annotated[str, typer.Option(help="validation or test.")] = "validation",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Evaluate a run's checkpoint again."""
    if part not in ("validation", "test"):
        raise ConfigError(f"--part {part!r} must be validation or test")
    prepared, simulation = reopen(run, device)
    report = evaluate_run(prepared, simulation, "test" if part == "test" else "validation")
    if as_json:
        print_json({**report.to_dict(), "round": simulation.round})
    else:
        print_table(_metrics_table(report, f"{run}, round {simulation.round}, {part}"))
        if report.short_users:
            asked = prepared.split.negatives.shape[1]
            print_note(shortage(f"{report.short_users:,} of {report.n_users:,} users", asked))


def _metrics_table(report: Report, title: str) -> Table:
    table = Table("metric", "sampled", "full", title=escape(title))
    for name, value in report.sampled.items():
        table.add_row(name, f"{value:.4f}", f"{report.full[name]:.4f}")
    return table


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    target: Annotated[
        float | None,
        typer.Option(help="Validation NDCG@10 to reach; by default 95 % of the full table's."),
    ] = None,
    different_splits: Annotated[
        bool, typer.Option(help="Compare runs on different splits all the same.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a report of all runs.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: accuracy, bytes per round, total bytes, bytes to reach a target."""
    from fedpeft.report import comparison, read_run
    from fedpeft.report.html import write_report
    from fedpeft.report.table import as_json as to_json
    from fedpeft.report.table import as_rich

    if html is not None and html.is_dir():
        raise ConfigError(f"--html {html} is a folder; name the file to write")
    found = [read_run(path) for path in runs]
    compared = comparison(found, target, allow_different_splits=different_splits)
    if html is not None:
        write_report(found, html, target=target, allow_different_splits=different_splits)
        say(f"report: {html}")
    if as_json:
        print_json(to_json(compared))
        return
    print_table(as_rich(compared))
    for note in compared.notes():
        print_note(note)


def recommend_items(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    user: Annotated[str, typer.Option(help="The user's id in the data set.")],
    top: Annotated[int, typer.Option(help="How many items.")] = 10,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Recommend items to a user, as the user's own device would."""
    found = recommend(*reopen(run, device), user, top)
    if as_json:
        print_json([asdict(item) for item in found])
        return
    table = Table("rank", "item", "title", "score")
    for item in found:
        table.add_row(str(item.rank), escape(item.item), escape(item.title), f"{item.score:.3f}")
    print_table(table)
