"""Draw docs/img/demo.png from the runs of `fedpeft demo`.

Run it as ``python docs/generate_picture.py``; it runs the demo in a temporary folder first.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from fedpeft.cli.demo import STRATEGIES, demo
from fedpeft.report import read_run
from fedpeft.report.html import write_png

PICTURE = Path(__file__).parent / "img" / "demo.png"


def main() -> None:
    """Run the demo with its own defaults and draw accuracy against megabytes."""
    with TemporaryDirectory() as folder:
        demo(out=Path(folder))
        PICTURE.parent.mkdir(exist_ok=True)
        write_png([read_run(Path(folder) / kind) for kind in STRATEGIES], PICTURE)
    print(PICTURE)


if __name__ == "__main__":
    main()
