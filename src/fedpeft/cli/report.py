"""`fedpeft report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpeft.cli.console import print_json
from fedpeft.errors import ArtifactError, ConfigError
from fedpeft.files import write_json


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="report")(report)


def report(
    folder: Annotated[Path, typer.Argument(help="Sweep folder or run folder.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write; by default report.html in the folder.")
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(help="Also write a sweep's means, deviations and differences as JSON."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the paths as JSON.")] = False,
) -> None:
    """Write the report of a sweep, finished or not, or of a run, anew."""
    from fedpeft.report import read_run
    from fedpeft.report.html import write_report
    from fedpeft.report.sweeps import is_sweep, read_sweep
    from fedpeft.report.sweeps import summary as summarise
    from fedpeft.report.sweeps.page import write_sweep_report

    page = out or folder / "report.html"
    for path in filter(None, (page, summary)):
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; name the file to write")
    if is_sweep(folder):
        sweep = read_sweep(folder)
        write_sweep_report(sweep, page)
        if summary is not None:
            write_json(summary, summarise(sweep))
    elif (folder / "config.toml").is_file():
        if summary is not None:
            raise ConfigError("--summary is for sweep folders; a run has its result.json")
        write_report([read_run(folder)], page)
    else:
        raise ArtifactError(f"{folder} is neither a sweep folder nor a run folder")
    if as_json:
        print_json({"report": str(page), "summary": summary and str(summary)})
    else:
        print(f"report: {page}")
