"""The public names of the package, and the example that its documentation begins with."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import fedpeft
from fedpeft.evaluation import Report
from fedpeft.simulation import Simulation

README = Path(__file__).resolve().parents[1] / "README.md"


def example() -> str:
    """Return the indented block of the package's docstring."""
    _, _, after = inspect.cleandoc(fedpeft.__doc__ or "").partition("::\n\n")
    lines = after.splitlines()
    end = next(i for i, line in enumerate(lines) if line and not line.startswith(" "))
    return textwrap.dedent("\n".join(lines[:end])).strip()


@pytest.mark.parametrize(
    ("call", "old", "new"),
    [
        (fedpeft.configure, "recipe", "preset"),
        (fedpeft.RunOptions, "plan", "backend"),
        (fedpeft.ItemContext, "semantic_codes", "semantic_ids"),
        (fedpeft.Simulation, "semantic_codes", "semantic_ids"),
    ],
)
def test_old_arguments_are_refused_with_their_new_names(call: Any, old: str, new: str) -> None:
    said = f"{call.__name__}: the argument '{old}' is called '{new}' now"
    with pytest.raises(TypeError, match=f"^{re.escape(said)}$"):
        call(**{old: None})
    assert new in inspect.signature(call).parameters


def test_docstring_example(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The example runs as it stands, and what it names is what it says."""
    names: dict[str, Any] = {}
    exec(compile(example(), "the docstring of fedpeft", "exec"), names)
    ndcg, sent = map(float, capsys.readouterr().out.split())
    simulation, report = names["simulation"], names["report"]
    assert isinstance(simulation, Simulation)
    assert isinstance(report, Report)
    assert simulation.round == 100
    assert ndcg == report.sampled["ndcg@10"]
    assert sent == simulation.traffic.bytes_per_client > 0
    popularity = fedpeft.baselines(names["data"].split, centralised=False)["popularity"]
    assert ndcg > popularity["test"]["sampled"]["ndcg@10"]


def test_a_name_of_before_is_known_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match=r"fedpeft\.floors is called fedpeft\.baselines now"):
        assert fedpeft.floors is fedpeft.baselines


def test_example_is_about_ten_lines() -> None:
    assert len(example().splitlines()) <= 12


def test_readme_shows_the_same_example() -> None:
    """`test_docs` runs the one in README; two examples would drift apart."""
    match = re.search(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.S | re.M)
    if match is None:
        pytest.skip("README has no Python example")
    shown = re.sub(r"  # .*", "", match[1]).strip()
    assert shown == example()


def test_public_names_are_there() -> None:
    for name in fedpeft.__all__:
        assert getattr(fedpeft, name) is not None
    assert set(dir(fedpeft)) == set(fedpeft.__all__)
    assert sorted(fedpeft.__all__) == fedpeft.__all__
    with pytest.raises(AttributeError, match="module 'fedpeft' has no attribute 'nothing'"):
        _ = fedpeft.nothing


def test_import_is_light() -> None:
    """Importing the package loads none of the heavy libraries; using a name does."""
    code = (
        "import sys, fedpeft; heavy = {'torch', 'polars', 'sklearn', 'typer'}; "
        "print(sorted(heavy & set(sys.modules))); fedpeft.resolve; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nTrue\n"


def test_reports_go_without_torch() -> None:
    code = "import sys, fedpeft.records, fedpeft.report.html; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("package", ["data", "experiment", "items", "report", "sweep"])
def test_public_functions_take_paths_as_strings(package: str) -> None:
    module = import_module(f"fedpeft.{package}")
    for name in module.__all__:
        function = getattr(module, name)
        if not inspect.isfunction(function):
            continue
        for parameter in inspect.signature(function).parameters.values():
            kinds = str(parameter.annotation)
            assert "Path" not in kinds or "str" in kinds, f"{name}({parameter})"
