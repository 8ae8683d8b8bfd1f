"""Each example runs in a process of its own and does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(folder: Path, *command: str) -> str:
    """Run Python in an empty folder; return what it printed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "FEDPEFT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers(pattern: str, text: str) -> list[float]:
    """Return the numbers a pattern's group finds."""
    return [float(found.replace(",", "")) for found in re.findall(pattern, text)]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_is_under_60_lines(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) < 60


def test_plain_torch_model(tmp_path: Path) -> None:
    said = run(tmp_path, str(EXAMPLES / "plain_torch_model.py"))
    full, small = numbers(r"([\d,]+) bytes", said)
    rest = 4 * (32 + 1)  # the score layer travels in both
    assert (full, small) == (4 * 600 * 32 + rest, 4 * 4 * (600 + 32) + rest)
    with_full, with_lora = numbers(r"([\d.]+)% of pairs", said)
    assert with_full > 75  # chance is 50
    assert with_lora > 75
    assert "Embedding(600, 32)" in said


def test_plain_torch_model_differs_by_three_lines() -> None:
    lines = (EXAMPLES / "plain_torch_model.py").read_text("utf-8").splitlines()
    ours = [line for line in lines if re.search("replace_embedding|merge_and_unload", line)]
    assert len(ours) == 3
    assert all(f"# line {number}" in line for number, line in enumerate(ours, 1))


def test_send_payloads(tmp_path: Path) -> None:
    said = run(tmp_path, str(EXAMPLES / "send_payloads.py"))
    rest = 4 * (2 * 32 + 32 + 1)
    table, payload = 4 * 2000 * 32, 4 * 4 * (2000 + 32)
    assert numbers(r"([\d,]+) bytes", said) == [
        table + rest,
        table + payload + rest,
        payload + rest,
    ]


def test_own_backbone(tmp_path: Path) -> None:
    said = run(tmp_path, str(EXAMPLES / "own_backbone.py"))
    baseline = max(numbers(r"popularity ([\d.]+)", said))
    assert all(ndcg > baseline for ndcg in numbers(r"NDCG@10 ([\d.]+)", said))
    full, small = numbers(r"([\d,]+) bytes per client", said)
    assert small < full / 2  # 12 of 60 rounds are warm-up, in which the full table travels


def test_own_adapter(tmp_path: Path) -> None:
    said = run(tmp_path, str(EXAMPLES / "own_adapter.py"))
    assert numbers(r"NDCG@10 ([\d.]+)", said)[0] > 0.2  # popularity has 0.09


def test_own_adapter_keeps_the_contract(tmp_path: Path) -> None:
    test = EXAMPLES / "test_own_adapter.py"
    said = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test))
    assert numbers(r"(\d+) passed", said)[0] > 50
