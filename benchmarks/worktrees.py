"""Commits of this repository, checked out side by side for as long as they are measured."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]


class GitError(Exception):
    """A sentence that says what git could not do."""


def resolve(name: str) -> str:
    """Return the full hash of a commit; raises `GitError` where there is no such commit."""
    _git("there is no git history beside the benchmarks", "rev-parse", "--git-dir")
    return _git(
        f"there is no commit {name!r} in this repository",
        *("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"),
    )


@contextmanager
def checked_out(commits: Mapping[str, str]) -> Iterator[tuple[Path, dict[str, Path]]]:
    """Yield a temporary folder and in it a working tree of each commit, by the names given."""
    with TemporaryDirectory(prefix="fedpeft-commits-") as name:
        folder = Path(name).resolve()
        trees: dict[str, Path] = {}
        try:
            for side, commit in commits.items():
                path = folder / side
                failed = f"commit {commit} cannot be checked out"
                _git(failed, "worktree", "add", "--quiet", "--detach", str(path), commit)
                trees[side] = path
            yield folder, trees
        finally:
            for path in trees.values():
                failed = f"{path} is left behind; `git worktree prune` forgets it"
                _git(failed, "worktree", "remove", "--force", str(path))


def _git(failed: str, *words: str) -> str:
    """Return what git prints; raises `GitError` with the sentence where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or "").strip().rpartition("\n")[2]
        raise GitError(f"{failed} ({said})" if said else failed) from None
    return done.stdout.strip()
