"""The verbs, and how errors leave the program."""

from __future__ import annotations

import os
import re
import sys
import warnings
from contextlib import suppress
from typing import Annotated, NoReturn, TextIO, cast

import typer

from fedpeft import __version__
from fedpeft.cli import cost, data, demo, doctor, report, results, run, sweep, traffic
from fedpeft.errors import FedpeftError, RenamedWarning, RunError

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
sweep.register(app)
report.register(app)
results.register(app)
cost.register(app)
traffic.register(app)
app.add_typer(data.app, name="data")
demo.register(app)
doctor.register(app)


_show = warnings.showwarning

# Click's base class of usage errors.  Newer Typers bring a Click of their own, so it cannot be
# imported by one name from all of them.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)


def main() -> None:
    """Run the command line; bad input ends with one sentence and exit code 2."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _tell
            warnings.simplefilter("default", RenamedWarning)
            app(standalone_mode=False, prog_name="fedpeft")
    except FedpeftError as error:
        _leave(str(error), error.exit_code)
    except _UsageError as error:
        problem = error.format_message().strip().rstrip(".")
        # a suggestion that both Typer and its Click make is there twice
        problem = re.sub(r"( Did you mean [^?]+\?)\1", r"\1", problem)
        if not problem:  # a bare `fedpeft`: its help has been printed
            sys.exit(error.exit_code)
        command = error.ctx.command_path if error.ctx else "fedpeft"
        _leave(f"{problem}; see {command} --help", error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        _leave("stopped", 130)
    except BrokenPipeError:  # the reader of a pipe has gone; nothing is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:  # a full disk, a folder without permission
        where = f"{error.filename}: " if error.filename else ""
        _leave(f"{where}{error.strerror or error}", RunError.exit_code)


def _tell(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours as one line; those of libraries as they come."""
    if issubclass(category, RenamedWarning):
        print(f"fedpeft: {message}", file=sys.stderr, flush=True)
    else:
        _show(message, category, filename, lineno, file, line)


def _leave(sentence: str, exit_code: int) -> NoReturn:
    """Print one line and exit; what other libraries said may have more than one."""
    with suppress(OSError):  # the terminal may have been closed
        print(f"fedpeft: {' '.join(sentence.split())}", file=sys.stderr, flush=True)
    sys.exit(exit_code)
