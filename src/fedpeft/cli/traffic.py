"""`fedpeft traffic`: what one client really sent in one round, as bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fedpeft.cli.console import cell, print_json, replay_bar, say
from fedpeft.cli.tables import print_table
from fedpeft.errors import ConfigError
from fedpeft.experiment.replay import Replayed, replay_upload
from fedpeft.files import atomic_path


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="traffic")(traffic)


def traffic(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    user: Annotated[str, typer.Option(help="The user's id in the data set.")],
    round_number: Annotated[int, typer.Option("--round", help="Number of the round, from 0.")],
    out: Annotated[Path | None, typer.Option(help="File to write the upload's bytes to.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make one client's exact upload of a round again, and show what is in it.

    An upload tells much about its client, so the file is readable by its owner alone.
    """
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ConfigError(f"--out {out} must be a file in a folder that exists")
    with replay_bar(quiet=as_json) as progress:
        found = replay_upload(run, user, round_number, stage=say, progress=progress)
    if out is not None:
        with atomic_path(out, private=True) as temporary:
            temporary.write_bytes(found.data)
        say(f"upload: {out}, {len(found.data):,} bytes")
    if as_json:
        print_json({"run": str(run), "user": user, **found.to_dict()})
    else:
        _show(found, f"{run}, user {user}, round {round_number}")


def _show(found: Replayed, title: str) -> None:
    told = found.to_dict()
    print_table(_pairs(told, title))
    table = Table("tensor", "shape", "values", "moved", "L2 norm", "largest")
    for tensor in found.tensors:
        values = 1
        for size in tensor.shape:
            values *= size
        table.add_row(
            cell(tensor.name),
            " x ".join(map(str, tensor.shape)),
            f"{values:,}",
            f"{tensor.moved:,}",
            f"{tensor.norm:.4g}",
            f"{tensor.largest:.4g}",
        )
    print_table(table)


def _pairs(told: dict[str, object], title: str) -> Table:
    table = Table("upload", "", title=cell(title))
    for name, value in told.items():
        if name != "tensors":
            table.add_row(
                name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value)
            )
    return table
