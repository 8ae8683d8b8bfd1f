"""Draw docs/img/demo.png from the runs of `fedpeft demo`.

Run it as ``python docs/generate_picture.py``; it runs the demo in a temporary folder first.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from fedpeft.cli.demo import STRATEGIES, demo
from fedpeft.report import read_run
from fedpeft.report.html import write_png
from options import parser


def main() -> None:
    """Run the demo with its own defaults and draw accuracy against megabytes."""
    taken = parser(__doc__)
    taken.add_argument("--rounds", type=int, default=300, help="rounds of each run (default 300)")
    options = taken.parse_args()
    picture = options.out / "img" / "demo.png"
    with TemporaryDirectory() as folder:
        demo(out=Path(folder), rounds=options.rounds)
        picture.parent.mkdir(exist_ok=True)
        write_png([read_run(Path(folder) / kind) for kind in STRATEGIES], picture)
    print(picture)


if __name__ == "__main__":
    main()
