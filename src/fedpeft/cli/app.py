"""The verbs, and how errors leave the program."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import click
import typer

from fedpeft import __version__
from fedpeft.cli import data, demo, doctor, results, run
from fedpeft.errors import FedpeftError

app = typer.Typer(
    name="fedpeft",
    help="Parameter-efficient item embeddings for federated recommendation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fedpeft {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Parameter-efficient item embeddings for federated recommendation."""


run.register(app)
results.register(app)
app.add_typer(data.app, name="data")
demo.register(app)
doctor.register(app)


def main() -> None:
    """Run the command line; bad input ends with one sentence and exit code 2."""
    try:
        app(standalone_mode=False)
    except FedpeftError as error:
        print(f"fedpeft: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of a pipe has gone; nothing is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
