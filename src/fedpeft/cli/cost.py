"""`fedpeft cost`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpeft.cli.console import PRESETS, print_json
from fedpeft.cli.tables import print_note, print_table
from fedpeft.experiment.settings import gather

MOST = 2**31 - 1
"""Hash functions take ids below this."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="cost")(cost)


def cost(
    config: Annotated[Path | None, typer.Argument(help="TOML file; all keys are optional.")] = None,
    preset: Annotated[str | None, typer.Option(help=PRESETS)] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds, warm-up included.")] = None,
    items: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="n, items of the catalogue.")
    ] = None,
    dim: Annotated[int | None, typer.Option(min=1, help="k, values of an item vector.")] = None,
    clients: Annotated[int | None, typer.Option(min=1, help="Clients in the population.")] = None,
    touched: Annotated[
        int | None, typer.Option(min=1, help="b, items that a client touches in a step.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TABLE.KEY=VALUE",
            help="Set any key, or one of a strategy: lora.rank=8, hash.rows=1024, rq.levels=3.",
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option(help="Build the tables and measure, beside counting.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what each strategy costs: bytes, memory, computation, and what it can express.

    Sizes that are not given are those of the data set that the configuration names, else those of
    MovieLens 1M.
    """
    from fedpeft.cost import as_json as to_json
    from fedpeft.cost import costs
    from fedpeft.cost.table import as_rich, notes
    from fedpeft.experiment.costs import scale_of, strategies

    options = {"preset": preset, "training.rounds": rounds, "items.dim": dim}
    values = gather(config, options, settings)
    compared = strategies(values)
    scale = scale_of(values, items=items, clients=clients, touched=touched)
    found = costs(compared, scale, measured=measure)
    if as_json:
        print_json(to_json(found, scale))
        return
    for table in as_rich(found, scale):
        print_table(table)
    for note in notes(found, scale):
        print_note(note)
