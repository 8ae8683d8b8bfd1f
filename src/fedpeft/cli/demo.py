"""`fedpeft demo`: the four strategies on the built-in data, a table and a report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from fedpeft.cli.console import tell
from fedpeft.cli.run import execute
from fedpeft.cli.tables import print_note, print_table
from fedpeft.experiment import Schedule, configure

STRATEGIES = ("full", "lora", "hash", "rq")
# large enough that the item table dwarfs every adapter, small enough for a coffee
SETTINGS = ["data.synthetic.users=2000", "data.synthetic.items=3000"]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="demo")(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo's runs; replaced.")] = Path(
        "runs/demo"
    ),
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each run.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the runs.")] = 0,
) -> None:
    """Train the full table, LoRA, Hash and RQ on the built-in data and compare them."""
    from fedpeft.report import comparison, read_run
    from fedpeft.report.html import write_report
    from fedpeft.report.table import as_rich

    runs = []
    for kind in STRATEGIES:
        folder = out / kind
        if (folder / "config.toml").is_file():  # an earlier demo's; nothing else is removed
            shutil.rmtree(folder)
        config = configure(adapter=kind, rounds=rounds, seed=seed, settings=SETTINGS)
        execute(config, folder, "auto", "auto", Schedule(), label=config.label)
        runs.append(read_run(folder))
    compared = comparison(runs)
    write_report(runs, out / "report.html")
    for table in as_rich(compared):
        print_table(table)
    for note in compared.notes():
        print_note(note, stderr=False)
    tell(f"report: {out / 'report.html'}")
