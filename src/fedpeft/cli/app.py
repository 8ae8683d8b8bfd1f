"""The verbs, and how errors leave the program."""

from __future__ import annotations

import errno
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, TextIO, cast

import typer

from fedpeft import __version__
from fedpeft.cli import (
    cost,
    data,
    demo,
    doctor,
    export,
    report,
    results,
    run,
    sweep,
    traffic,
    tune,
)
from fedpeft.cli.leaving import leave, silence_output
from fedpeft.errors import FedpeftError, Interrupted, RenamedWarning, RunError
from fedpeft.memory import keep_freed, ran_out

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
tune.register(app)
report.register(app)
results.register(app)
export.register(app)
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
    code = None
    keep_freed()
    try:
        with warnings.catch_warnings(), _stopped_alike():
            warnings.showwarning = _tell
            warnings.simplefilter("default", RenamedWarning)
            code = app(standalone_mode=False, prog_name="fedpeft")
            sys.stdout.flush()
    except FedpeftError as error:
        leave(str(error), error.exit_code)
    except _UsageError as error:
        problem = error.format_message().strip().rstrip(".")
        # a suggestion that both Typer and its Click make is there twice
        problem = re.sub(r"( Did you mean [^?]+\?)\1", r"\1", problem)
        if not problem:  # a bare `fedpeft`: its help has been printed
            sys.exit(error.exit_code)
        command = error.ctx.command_path if error.ctx else "fedpeft"
        leave(f"{problem}; see {command} --help", error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        code = _STOPPED
    except BrokenPipeError:  # the reader of a pipe has gone; nothing is left to tell
        silence_output()
        sys.exit(141)
    except OSError as error:  # a full disk, a folder without permission
        where = error.filename
        if where is None and error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            silence_output()
            where = "standard output"  # whatever else is written has a name
        leave(f"{f'{where}: ' if where else ''}{error.strerror or error}", RunError.exit_code)
    except (MemoryError, RuntimeError, ValueError) as error:
        if not ran_out(error):
            raise
        leave("memory does not suffice; take smaller data or settings", RunError.exit_code)
    if code == _STOPPED:  # Typer turns a Ctrl-C into this
        leave("stopped", _STOPPED)
    if code:
        sys.exit(code)


_STOPPED = Interrupted.exit_code


@contextmanager
def _stopped_alike() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the program as Ctrl-C does, so that it tidies up.

    Signals that are ignored, as under `nohup`, stay so.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    main = threading.current_thread() is threading.main_thread()  # others may not set handlers
    usual = [number for number in numbers if main and signal.getsignal(number) == signal.SIG_DFL]
    for number in usual:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in usual:
            signal.signal(number, signal.SIG_DFL)


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
