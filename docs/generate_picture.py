"""Draw docs/img/demo.png: the demo's four strategies on a larger built-in catalogue.

Run it as ``python docs/generate_picture.py``; it takes about a minute on two cores.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from fedpeft.cli.console import LineWatcher
from fedpeft.cli.demo import STRATEGIES
from fedpeft.experiment import Schedule, configure, start
from fedpeft.federation import RunOptions
from fedpeft.report import comparison, read_run
from fedpeft.report.html import write_png
from fedpeft.report.table import as_text

PICTURE = Path(__file__).parent / "img" / "demo.png"
SETTINGS = ["data.synthetic.users=2000", "data.synthetic.items=3000", "evaluation.every=20"]
ROUNDS = 400


def main() -> None:
    """Run the four strategies in a temporary folder and draw accuracy against megabytes."""
    with TemporaryDirectory() as folder:
        runs = []
        for kind in STRATEGIES:
            config = configure(adapter=kind, rounds=ROUNDS, settings=SETTINGS)
            out = Path(folder) / kind
            start(config, out, RunOptions(config.seed), LineWatcher(), Schedule())
            runs.append(read_run(out))
        PICTURE.parent.mkdir(exist_ok=True)
        write_png(runs, PICTURE)
        print(as_text(comparison(runs)))
    print(PICTURE)


if __name__ == "__main__":
    main()
