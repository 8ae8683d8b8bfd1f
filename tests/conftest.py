"""Fixtures shared by all tests."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# how fast inputs come says what else the machine does, so it fails no test;
# pytest --hypothesis-profile=long tests/data is for thousands of examples
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("untimed", UNTIMED)
settings.load_profile("untimed")
settings.register_profile("long", UNTIMED, max_examples=5000)

SCRIPTS = ("benchmarks", "docs", "experiments")
"""Folders of scripts that import each other by name."""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data sets beside the checkout; skip when it is not there."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data sets are not redistributed: no ../shared/data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the results of pretraining in a folder of this test session."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDPEFT_CACHE", str(folder))
        yield folder


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return what runs a script of the checkout in this process, as if it were called alone."""
    modules, threads = set(sys.modules), torch.get_num_threads()

    def run(script: Path, *words: str | Path) -> None:
        monkeypatch.syspath_prepend(script.parent)
        for sibling in script.parent.glob("*.py"):  # a folder of tests may have the same name
            monkeypatch.delitem(sys.modules, sibling.stem, raising=False)
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, words)])
        runpy.run_path(str(script), run_name="__main__")

    yield run
    torch.set_num_threads(threads)
    for name in set(sys.modules) - modules:  # other folders' scripts have siblings of one name
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent.name in SCRIPTS:
            del sys.modules[name]
