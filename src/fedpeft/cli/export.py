"""`fedpeft export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpeft.cli.console import print_json, say, tell
from fedpeft.errors import ConfigError
from fedpeft.experiment import Recommender


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="export")(export)


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; by default export in the run folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the paths as JSON.")] = False,
) -> None:
    """Write item vectors (.npy, .safetensors) and the client's scorer (torch.export)."""
    from fedpeft.experiment.export import SCORER
    from fedpeft.experiment.export import export as write

    folder = out or run / "export"
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file; name a folder to write to")
    written = write(Recommender(run, "cpu", say), folder)
    if as_json:
        print_json([str(path) for path in written])
    else:
        for path in written:
            tell(str(path))
    if not any(path.stem == SCORER for path in written):
        say(
            "no scorer: with training.inference = 'personalise' each client scores with its own "
            "copy of the payload"
        )
