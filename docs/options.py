"""What the scripts that write documentation take on their command line."""

from __future__ import annotations

import argparse
from pathlib import Path

DOCS = Path(__file__).resolve().parent


def parser(about: str | None) -> argparse.ArgumentParser:
    """Return a parser of `--out`, the folder that pages and pictures are written into."""
    found = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    found.add_argument(
        "--out", type=Path, default=DOCS, help="folder of the pages, with img/ (default: docs/)"
    )
    return found
