"""How far differences would vary with other users: intervals over users, from a sweep's folder.

    fedpeft sweep experiments/grid-fedpeft.toml --data data
    python experiments/users.py runs/grid-fedpeft

Records of a sweep hold means over users only, so this is made from the run folders.  Cells that the
file knows and the folder has not finished stay.  It holds nothing of a single user.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedpeft.errors import ArtifactError
from fedpeft.files import read_json, write_json
from fedpeft.report.sweeps import CellResult, facets, read_sweep

RESULTS = Path(__file__).parent / "results" / "users.json"


def told(cell: CellResult) -> dict[str, Any] | None:
    """Return a cell's labels, its intervals over users by metric, and how it was made."""
    reference = cell.reference
    found = {name: gap for name, gap in cell.differences.items() if gap.over == "users"}
    if not found or reference is None:
        return None
    seeds = sorted(cell.rows.keys() & reference.rows.keys())
    rows = [side.rows[seed] for side in (cell, reference) for seed in seeds]
    return {
        "labels": dict(cell.labels),
        "reference": dict(reference.labels),
        "part": cell.part,
        "differences": {name: asdict(gap) for name, gap in found.items()},
        "seeds": seeds,
        "split": rows[0]["split"],
        "commits": sorted({row["commit"] for row in rows}),
    }


def main() -> None:
    """Add the cells of a sweep folder to the committed file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path, help="sweep folder")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file to write or add to")
    options = parser.parse_args()
    try:
        cells = [cell for facet in facets(read_sweep(options.sweep)) for cell in facet.cells]
    except ArtifactError as error:
        parser.error(str(error))
    found = [facts for cell in cells if (facts := told(cell)) is not None]
    earlier = read_json(options.out) if options.out.exists() else []
    kept = [old for old in earlier if old["labels"] not in [new["labels"] for new in found]]
    write_json(options.out, [*kept, *found])
    print(f"{options.out}: {len(found)} new, {len(kept)} kept")


if __name__ == "__main__":
    main()
