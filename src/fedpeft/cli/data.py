"""`fedpeft data`: what can be downloaded, downloading it, looking at it."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from rich.table import Table

from fedpeft.cli.console import cell, print_json, say, tell
from fedpeft.cli.tables import print_table
from fedpeft.experiment import configure

app = typer.Typer(help="List, download and describe data sets.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(name="list")
def list_sources(as_json: AsJson = False) -> None:
    """List the data sets that can be downloaded, and the readers of other data."""
    from fedpeft.data import readers
    from fedpeft.data.download import SOURCES

    if as_json:
        print_json({"sources": sorted(SOURCES), "readers": readers.names()})
        return
    table = Table("name", "terms")
    for name, source in sorted(SOURCES.items()):
        table.add_row(name, source.terms)
    print_table(table)
    tell(f"built in: synthetic; readers of folders: {', '.join(readers.names())}")


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="A name from `fedpeft data list`.")],
    folder: Annotated[Path, typer.Option(help="Where to put it.")] = Path("data"),
) -> None:
    """Download an official archive, verify it, unpack it."""
    from fedpeft.data.download import get as download

    path = download(name, folder)
    tell(str(path))
    say(f"try: fedpeft run --data {quote(str(path))}")


@app.command()
def describe(
    source: Annotated[
        str | None, typer.Argument(help="'synthetic', a folder, or a file of interactions.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file, as for `fedpeft run`.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Set any key.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read a data set and say what is in it and what cleaning did."""
    from fedpeft.data import load
    from fedpeft.data.describe import describe as facts

    found = facts(load(configure(config, data=source, settings=settings).data))
    if as_json:
        print_json(found)
        return
    notes = found.pop("notes")
    table = Table("fact", "value")
    for key, value in _flat(found):
        table.add_row(key, cell(value))
    print_table(table)
    for note in notes:
        print(note)


def _flat(values: dict[str, object], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            shown = f"{value:,.4g}" if isinstance(value, float) else str(value)
            rows.append((f"{prefix}{key}", shown))
    return rows
