"""`fedpeft report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpeft.cli.console import print_json, tell
from fedpeft.errors import ArtifactError, ConfigError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="report")(report)


def report(
    folder: Annotated[
        Path, typer.Argument(help="Sweep folder, run folder, or a file of --records.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Page to write; by default report.html in the folder.")
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            help="Also write a sweep's results as small JSON lines, for version control; finished "
            "runs that the file has and the folder lacks stay, and count."
        ),
    ] = None,
    drop: Annotated[
        bool,
        typer.Option(
            "--drop", help="Let runs of settings that the sweep asks for no more leave --records."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the paths as JSON.")] = False,
) -> None:
    """Write the report of a sweep, finished or not, or of a run, anew."""
    from fedpeft.report import read_run
    from fedpeft.report.html import write_report
    from fedpeft.report.sweeps import (
        is_records,
        is_sweep,
        read_records,
        read_sweep,
        write_records,
    )
    from fedpeft.report.sweeps.page import write_sweep_report

    if drop and records is None:
        raise ConfigError("--drop is about the file of --records; name it")
    small = is_records(folder)
    page = out or (folder.with_suffix(".html") if small else folder / "report.html")
    for path in filter(None, (page, records)):
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; name the file to write")
    if page.resolve() in {path.resolve() for path in (records, folder) if path is not None}:
        raise ConfigError(f"{page} holds records; choose another --out for the page")
    if small or is_sweep(folder):
        sweep = read_records(folder) if small else read_sweep(folder)
        if records is not None:
            sweep = write_records(sweep, records, drop=drop)
        write_sweep_report(sweep, page)
    elif (folder / "config.toml").is_file():
        if records is not None:
            raise ConfigError("--records is for sweeps; a run has its result.json")
        write_report([read_run(folder)], page)
    else:
        raise ArtifactError(
            f"{folder} is neither a sweep folder, nor a run folder, nor a .jsonl file of --records"
        )
    if as_json:
        print_json({"report": str(page), "records": records and str(records)})
    else:
        tell(f"report: {page}")
