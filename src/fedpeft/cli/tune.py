"""`fedpeft tune`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from shlex import join, quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fedpeft.cli.console import PRESETS, print_json, say, tell
from fedpeft.cli.run import Settings
from fedpeft.cli.sweep import cores
from fedpeft.errors import ConfigError, InputError
from fedpeft.foreign import printable

if TYPE_CHECKING:
    from fedpeft.data import Split
    from fedpeft.sweep import Summary
    from fedpeft.sweep.tune import Verdict

TRIALS = 20
"""Trials of a search that is given neither a number nor a time."""
MOST = 10_000
"""Trials of a search that is given a time alone."""
WRITTEN = "Written by fedpeft tune"
"""How the comment of a file begins that may be written over."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="tune")(tune)


def tune(
    data: Annotated[
        str,
        typer.Argument(help="'synthetic', the folder of a data set, or a file of interactions."),
    ],
    config: Annotated[Path | None, typer.Option(help="TOML file, as for `fedpeft run`.")] = None,
    preset: Annotated[str | None, typer.Option(help=PRESETS)] = None,
    adapter: Annotated[str | None, typer.Option(help="As for `fedpeft run`.")] = None,
    backbone: Annotated[str | None, typer.Option(help="As for `fedpeft run`.")] = None,
    settings: Settings = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help=f"Settings to try; {TRIALS} without a budget.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Begin nothing that would end later.")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="NDCG@10 on validation: full (whole catalogue) or sampled.")
    ] = "full",
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="Seed of the runs; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml", help="Where to write; the runs go to a folder beside it."
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at once; by default one per core.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Find on validation what a preset leaves to be tuned; write a file for `fedpeft run`.

    The test part is not read.  A second call goes on with the search.
    """
    from fedpeft.cli.sweep_progress import watching
    from fedpeft.data import load, split
    from fedpeft.experiment import resolve
    from fedpeft.experiment.settings import gather
    from fedpeft.sweep import read_grid, sweep
    from fedpeft.sweep.folder import available_memory
    from fedpeft.sweep.process import How
    from fedpeft.sweep.tune import grid_of, judge, search_of, write_grid, write_tuned

    ranking = _ranking(metric)
    if budget is not None and not 0 < budget < 1e9:
        raise ConfigError(f"--budget {budget:g} must be a number of minutes above 0")
    until = None if budget is None else time.monotonic() + 60 * budget
    how = How(device)
    how.check()
    options = {
        "data.source": data,
        "preset": preset,
        "adapter.kind": adapter,
        "backbone.kind": backbone,
    }
    values = gather(config, options, settings)
    asked = resolve(values)
    file = out or _usual(asked.data.source, asked.preset, asked.adapter.kind, asked.backbone.kind)
    _check_out(file)
    say(f"reading {asked.data.source}")
    parts = split(load(asked.data), asked.evaluation)
    seeds = tuple(seed or [asked.seed])
    most = trials or (TRIALS if until is None else MOST)
    search = search_of(values, asked, parts)
    path = write_grid(
        file, grid_of(values, asked, search, trials=most, ranking=ranking, seeds=seeds)
    )
    grid = read_grid(path, Path())
    cells = grid.cells()
    with watching(as_json) as watcher:
        summary = sweep(
            grid,
            cells,
            cells,
            path.parent,
            watcher,
            jobs=jobs or cores(),
            memory=available_memory() * 4 // 5,
            how=how,
            until=until,
        )
    for name, why in summary.failed:
        say(f"failed: {name}: {why}")
    if not summary.found or summary.found[0].first is None:
        raise InputError(f"{asked.preset}, as it is, could not be run to its end; see above")
    verdict = judge(summary.found[0], ranking)
    said = _facts(verdict, parts, ranking, seeds, budget)
    write_tuned(file, [f"{WRITTEN}: {_command()}", *said], values, verdict)
    _tell(file, data, verdict, summary, said, ranking, as_json=as_json)


def _ranking(metric: str) -> Literal["full", "sampled"]:
    if metric not in ("full", "sampled"):
        raise ConfigError(f"--metric {metric!r} must be full or sampled")
    return "full" if metric == "full" else "sampled"


def _usual(source: str, *parts: str) -> Path:
    """Return where the settings for a data set go if nobody says."""
    return Path("runs") / f"tuned-{'-'.join([Path(source).stem, *parts])}.toml"


def _check_out(file: Path) -> None:
    """Raise `ConfigError` where tuned settings cannot be written, or would replace others."""
    if file.suffix != ".toml":
        raise ConfigError(f"--out {file} must be a .toml file")
    if file.is_dir():
        raise ConfigError(f"--out {file} is a folder; name a .toml file")
    if file.exists() and not file.read_bytes().startswith(f"# {WRITTEN}".encode()):
        raise ConfigError(
            f"--out {file} is there, and fedpeft tune has not written it; name another"
        )
    if file.with_suffix("").is_file():
        raise ConfigError(f"{file.with_suffix('')} is a file, but the runs are to go there")


def _command() -> str:
    return printable(join(["fedpeft", *sys.argv[1:]]))


def _facts(
    verdict: Verdict, parts: Split, ranking: str, seeds: tuple[int, ...], budget: float | None
) -> list[str]:
    """Return what was done and found, in lines."""
    from fedpeft import __version__

    found = verdict.found
    against = "the whole catalogue" if ranking == "full" else "sampled negatives"
    trials = f"{found.trials} trial{'' if found.trials == 1 else 's'}"
    time_given = "" if budget is None else f", {budget:g} minutes"
    return [
        f"fedpeft {__version__}; split {parts.fingerprint[:16]}: {parts.n_users:,} users, "
        f"{parts.n_items:,} items",
        f"{trials}{time_given}; seeds {', '.join(map(str, seeds))}; test was not read",
        f"NDCG@10 on validation against {against}: {verdict.first.value:.4f} with the preset, "
        f"{found.best.value:.4f} with the best settings",
        _judged(verdict),
    ]


def _judged(verdict: Verdict) -> str:
    """Return what the gain is, and what follows from it."""
    gain = verdict.gain
    if verdict.found.best == verdict.first:
        return "no trial is better than the preset, so it stays as it is"
    interval = "" if gain.low is None else f" ({gain.low:+.4f} to {gain.high:+.4f})"
    said = "the preset stays as it is" if verdict.keeps_preset else "the settings found are better"
    noise = "not beyond" if verdict.keeps_preset else "beyond"
    return (
        f"gain {gain.mean:+.4f}{interval}, paired over {gain.n:,} users, 95 % for the best of all "
        f"trials: {noise} their noise, so {said}"
    )


def _tell(
    file: Path,
    data: str,
    verdict: Verdict,
    summary: Summary,
    said: list[str],
    ranking: str,
    *,
    as_json: bool,
) -> None:
    """Print what was found."""
    found, gain = verdict.found, verdict.gain
    if as_json:
        facts: Mapping[str, Any] = {
            "file": str(file),
            "folder": str(summary.out),
            "trials": found.trials,
            "failed": [{"trial": name, "reason": why} for name, why in summary.failed],
            "metric": {"name": "ndcg@10", "part": "validation", "ranking": ranking},
            "preset": verdict.first.value,
            "best": found.best.value,
            "best_settings": dict(found.best.settings),
            "gain": {"mean": gain.mean, "low": gain.low, "high": gain.high, "users": gain.n},
            "keeps_preset": verdict.keeps_preset,
            "settings": dict(verdict.settings),
        }
        print_json(facts)
        return
    for line in said:
        tell(line)
    changed = {} if found.best == verdict.first else found.best.settings
    for key, value in changed.items():
        was = verdict.first.settings[key]
        tell(f"  {key}: {value:.4g} (preset {was:.4g})")
    say(f"try: fedpeft run {quote(str(file))} --data {quote(data)}")
