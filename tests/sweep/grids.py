"""Grid files for tests, on data that take a second."""

from __future__ import annotations

from pathlib import Path

SMALL = """
[base.data.synthetic]
users = 60
items = 80
interactions_per_user = 10
topics = 8
[base.items]
base = "svd"
dim = 8
[base.evaluation]
negatives = 20
every = 10
centralised_baseline = false
"""

STRATEGIES = """
[axes.strategy.Full]
adapter.kind = "full"
[axes.strategy."P-LoRA"]
adapter = {kind = "lora", rank = 2}
"""


def write_grid(folder: Path, text: str) -> Path:
    """Write a grid file; return its path."""
    path = folder / "grid.toml"
    path.write_text(text, encoding="utf-8")
    return path
