"""`fedpeft run`."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from fedpeft.adapters import adapters
from fedpeft.backbones import backbones
from fedpeft.cli.console import PRESETS, BarWatcher, LineWatcher, print_json, say
from fedpeft.cli.tables import print_note, print_table
from fedpeft.errors import ConfigError, Interrupted
from fedpeft.experiment import (
    RunConfig,
    RunFolder,
    Schedule,
    Watcher,
    configure,
    renames,
    resume,
    start,
)
from fedpeft.losses import losses
from fedpeft.records import ConfigFile, Result
from fedpeft.registry import Registry
from fedpeft.simulation import RunOptions

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Set any key; may be repeated."),
]


def _known(registry: Registry[Any]) -> str:
    """Return a help text that lists the registered parts."""
    return f"{', '.join(registry.names())}."


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="run")(run)


def run(
    config: Annotated[Path | None, typer.Argument(help="TOML file; all keys are optional.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="'synthetic', the folder of a data set, or a file of interactions."),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help=_known(backbones))] = None,
    adapter: Annotated[str | None, typer.Option(help=_known(adapters))] = None,
    mode: Annotated[str | None, typer.Option(help="peft (P-) or compress (C-).")] = None,
    loss: Annotated[str | None, typer.Option(help=_known(losses))] = None,
    preset: Annotated[str | None, typer.Option(help=PRESETS)] = None,
    recipe: Annotated[str | None, typer.Option(hidden=True)] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds, warm-up included.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.")] = None,
    settings: Settings = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    backend: Annotated[
        str | None, typer.Option(help="auto (the default), fused, vmap or sequential.")
    ] = None,
    plan: Annotated[str | None, typer.Option(hidden=True)] = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Rounds between checkpoints.")] = 100,
    out: Annotated[Path | None, typer.Option(help="Run folder to write; must be new.")] = None,
    resume_from: Annotated[
        Path | None, typer.Option("--resume", help="Run folder to go on with.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train and evaluate one configuration; write a run folder with a report."""
    schedule = Schedule(checkpoint_every)
    preset = renamed_option("--recipe", recipe, "--preset", preset)
    backend = chosen_backend(backend, plan)
    if resume_from is not None:
        given = (config, data, backbone, adapter, mode, loss, preset, rounds, seed, settings, out)
        if any(option is not None for option in given):
            raise ConfigError(
                "--resume goes on with the configuration in the run folder; it takes no other "
                "setting than --device, --backend, --checkpoint-every and --json; for other data "
                "or settings begin a run in another folder"
            )
        folder = resume_from
        result = execute(None, folder, device, backend, schedule, as_json=as_json)
    else:
        resolved = configure(
            config,
            data=data,
            backbone=backbone,
            adapter=adapter,
            mode=mode,
            loss=loss,
            preset=preset,
            rounds=rounds,
            seed=seed,
            settings=settings,
        )
        folder = out or default_folder(resolved)
        result = execute(resolved, folder, device, backend, schedule, as_json=as_json)
    if as_json:
        print_json({**result, "folder": str(folder)})
    else:
        _summarise(folder)


def chosen_backend(name: str | None, plan: str | None) -> Any:
    """Return the backend of a name; option and name may be those of earlier versions."""
    _require_one("--plan", plan, "--backend", name)
    option, given = ("--backend", name) if plan is None else ("--plan", plan)
    chosen = "auto" if given is None else renames.BACKENDS.get(given, given)
    if chosen not in ("auto", "fused", "vmap", "sequential"):
        raise ConfigError(f"{option} {given!r} must be auto, fused, vmap or sequential")
    if given is not None and chosen != given:
        renames.tell(f"{option} {given}", f"--backend {chosen}")
    elif plan is not None:
        renames.tell("--plan", "--backend")
    return chosen


def renamed_option(old: str, old_value: str | None, new: str, value: str | None) -> str | None:
    """Return the value of an option that may be given by its old name."""
    _require_one(old, old_value, new, value)
    if old_value is None:
        return value
    renames.tell(old, new)
    return old_value


def _require_one(old: str, old_value: str | None, new: str, value: str | None) -> None:
    """Raise `ConfigError` where an option is given by its old name and by its new one."""
    if old_value is not None and value is not None:
        raise ConfigError(f"{old} is called {new} now, and both are given; drop {old}")


def default_folder(config: RunConfig) -> Path:
    """Return a new folder name under ``runs/``."""
    source = Path(config.data.source).name
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{stamp}-{source}-{config.adapter.kind}-s{config.seed}"
    folders = (Path("runs") / (name if i == 1 else f"{name}-{i}") for i in count(1))
    return next(folder for folder in folders if not folder.exists())


def execute(
    config: RunConfig | None,
    folder: Path,
    device: str,
    backend: Any,
    schedule: Schedule,
    *,
    as_json: bool = False,
    label: str = "training",
) -> dict[str, Any]:
    """Start (or, without `config`, resume) a run, showing progress; write its report."""
    from fedpeft.report import read_run
    from fedpeft.report.html import write_report

    options = RunOptions(device=device, backend=backend)
    bars = sys.stderr.isatty() and not as_json
    watcher = BarWatcher(label) if bars else LineWatcher()
    with watcher if isinstance(watcher, BarWatcher) else nullcontext():
        try:
            if config is None:
                result = _resume(folder, options, watcher, schedule)
            else:
                result = start(config, folder, options, watcher, schedule)
            watcher.stage("writing the report")
            write_report([read_run(folder)], folder / "report.html")
        except (Interrupted, KeyboardInterrupt) as stop:
            said = str(stop) or "stopped"
            if (folder / ConfigFile.FILE).is_file():
                said += f"; go on with: fedpeft run --resume {quote(str(folder))}"
            raise Interrupted(said) from None
    return result


def _resume(
    folder: Path, options: RunOptions, watcher: Watcher, schedule: Schedule
) -> dict[str, Any]:
    """Go on with a run, even one that was killed when only its report was missing."""
    run = RunFolder.open(folder)
    if run.is_complete and not (folder / "report.html").exists():
        with run.locked():
            run.sweep()
        return Result.read(folder).to_json()
    return resume(folder, options, watcher, schedule)


def _summarise(folder: Path) -> None:
    from fedpeft.report import comparison, read_run
    from fedpeft.report.table import as_rich

    compared = comparison([read_run(folder)])
    for table in as_rich(compared):
        print_table(table)
    for warning in compared.warnings:
        print_note(warning)
    say(f"report: {folder / 'report.html'}")
