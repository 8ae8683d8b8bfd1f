"""`fedpeft evaluate`, `compare` and `recommend`: what run folders are good for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fedpeft.cli.console import cell, print_json, say, tell
from fedpeft.cli.tables import print_note, print_table
from fedpeft.errors import ConfigError
from fedpeft.evaluation import Report
from fedpeft.experiment import Recommender, evaluate_run, reopen
from fedpeft.experiment.history import read_history
from fedpeft.records.parquet import write_table
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
    table = Table("metric", "full", "sampled", title=cell(title))
    for name, value in report.sampled.items():
        table.add_row(name, f"{report.full[name]:.4f}", f"{value:.4f}")
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
    for table in as_rich(compared):
        print_table(table)
    for note in compared.notes():
        print_note(note)


def recommend_items(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    user: Annotated[str | None, typer.Option(help="A user of the run, by the data's id.")] = None,
    history: Annotated[
        str | None,
        typer.Option(
            help="What someone has who took no part: ids with commas between them, or a file with "
            "one id a line, or a table with a column of them."
        ),
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="All users of the run.")] = False,
    out: Annotated[Path | None, typer.Option(help="Parquet file to write, for --all.")] = None,
    top: Annotated[int, typer.Option(help="How many items.")] = 10,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Recommend items, as the user's own device would; needs the run folder alone."""
    if (user is not None) + (history is not None) + everyone != 1:
        raise ConfigError("give one of --user, --history and --all")
    if everyone != (out is not None):
        raise ConfigError("--all and --out FILE.parquet belong together")
    if out is not None and (out.suffix != ".parquet" or out.is_dir()):
        raise ConfigError(f"--out {out} must be a file that ends in .parquet")
    recommender = Recommender(run, device, say)
    if out is not None:
        found = recommender.for_all(top)
        write_table(found, out, 1, private=True)
        told = {"users": found["user"].n_unique(), "rows": found.height, "out": str(out)}
        if as_json:
            print_json(told)
        else:
            tell(f"{told['rows']:,} rows for {told['users']:,} users: {out}")
        return
    if history is not None:
        items = read_history(history, recommender.config.data.columns)
        best = recommender.for_history(items, top)
    else:
        assert user is not None
        best = recommender.for_user(user, top)
    if as_json:
        print_json([asdict(item) for item in best])
        return
    table = Table("rank", "item", "title", "score")
    for item in best:
        table.add_row(str(item.rank), cell(item.item), cell(item.title), f"{item.score:.3f}")
    print_table(table)
