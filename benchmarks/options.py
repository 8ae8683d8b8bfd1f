"""Options that several benchmark scripts have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def add_toy(parser: argparse.ArgumentParser) -> None:
    """Add `--toy`."""
    parser.add_argument(
        "--toy", action="store_true", help="tiny data: shows that it runs, measures nothing"
    )


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add `--out`."""
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder of results (default: results/)"
    )


def refuse_toy_results(parser: argparse.ArgumentParser, out: Path) -> None:
    """End with exit code 2 where figures at toy size would replace the committed ones."""
    if out.resolve() == RESULTS.resolve():
        parser.error("figures of --toy are not kept in results/; name another folder with --out")
