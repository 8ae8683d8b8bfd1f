"""Grid files become cells; bad ones are refused with one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedpeft.errors import ConfigError
from fedpeft.sweep import Cell, read_grid, select
from fedpeft.sweep.cell import resolve_cell
from fedpeft.sweep.folder import SweepFolder

from .grids import SMALL, STRATEGIES, write_grid

GRIDS = sorted((Path(__file__).parents[2] / "experiments").glob("*.toml"))
GRID = f"""
seeds = [0, 3]
exclude = [{{strategy = "P-*", loss = "bpr"}}]
{SMALL}
[axes]
"training.refresh_every" = [0, 25]
{STRATEGIES}
[axes.loss]
bpr = {{loss.kind = "bpr"}}
ials = {{}}
[[extra]]
labels = {{strategy = "P-LoRA r=8", loss = "ials"}}
settings = {{adapter = {{kind = "lora", rank = 8}}}}
[compare]
axis = "strategy"
reference = "Full"
"""


def cells_of(tmp_path: Path, text: str) -> list[Cell]:
    return read_grid(write_grid(tmp_path, text), tmp_path).cells()


def test_product(tmp_path: Path) -> None:
    found = [
        (
            cell.config.seed,
            cell.labels["training.refresh_every"],
            cell.labels["strategy"],
            cell.labels["loss"],
            cell.config.adapter.kind,
            getattr(cell.config.adapter.config, "rank", None),
            cell.config.loss.kind,
            cell.config.training.refresh_every,
        )
        for cell in cells_of(tmp_path, GRID)
    ]
    one_seed = [
        ("0", "Full", "bpr", "full", None, "bpr", 0),
        ("0", "Full", "ials", "full", None, "ials", 0),
        ("0", "P-LoRA", "ials", "lora", 2, "ials", 0),
        ("25", "Full", "bpr", "full", None, "bpr", 0),
        ("25", "Full", "ials", "full", None, "ials", 0),
        ("25", "P-LoRA", "ials", "lora", 2, "ials", 25),
        ("0", "P-LoRA r=8", "ials", "lora", 8, "ials", 0),
        ("25", "P-LoRA r=8", "ials", "lora", 8, "ials", 25),
    ]
    assert found == [(seed, *cell) for seed in (0, 3) for cell in one_seed]


def test_equal_configurations_share_a_run(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "sweep")
    cells = [cell for cell in cells_of(tmp_path, GRID) if cell.labels["loss"] == "ials"]
    by_config: dict[str, set[Path]] = {}
    for cell in cells:
        by_config.setdefault(cell.hash, set()).add(folder.job(cell).folder)
    assert all(len(folders) == 1 for folders in by_config.values())
    assert len({path for paths in by_config.values() for path in paths}) == len(by_config) == 10


def test_hash_knows_no_machine_path(tmp_path: Path) -> None:
    text = 'base.data.source = "set"\n'
    hashes = set()
    for place in ("here", "there"):
        (tmp_path / place / "set").mkdir(parents=True)
        (cell,) = read_grid(write_grid(tmp_path, text), tmp_path / place).cells()
        assert cell.config.data.source == str((tmp_path / place / "set").resolve())
        hashes.add(cell.hash)
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("only", "count"),
    [
        ([], 16),
        (["Full"], 8),
        (["Full", "P-LoRA"], 12),
        (["Full", "bpr"], 4),
        (["strategy=Full", "seed=3"], 4),
        (["25", "P-LoRA r=8"], 2),
    ],
)
def test_select(only: list[str], count: int, tmp_path: Path) -> None:
    assert len(select(cells_of(tmp_path, GRID), only)) == count


@pytest.mark.parametrize(
    ("only", "said"),
    [
        (["P-Lora"], "no cell has this label; there are 0, 25, Full, P-LoRA"),
        (["P-LoRA", "bpr"], "no cell has all these labels"),
        (["seed=1"], "no cell has this label"),
    ],
)
def test_select_refuses(only: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        select(cells_of(tmp_path, GRID), only)


def test_select_refuses_a_label_of_two_axes(tmp_path: Path) -> None:
    text = '[axes]\n"training.refresh_every" = [0, 5]\n"training.warmup_rounds" = [0, 5]\n'
    cells = cells_of(tmp_path, text)
    with pytest.raises(ConfigError, match=r"write training\.refresh_every=5"):
        select(cells, ["5"])
    assert len(select(cells, ["training.refresh_every=5"])) == 2


BAD = {
    "seeds = [0, 0]": "seeds: [0, 0] names a seed twice",
    "seeds = []": "seeds = []: ",
    "seeds = [-1]": "seeds.0 = -1: ",
    "seeds = [true]": "seeds.0 = True: input should be a valid integer",
    "sedes = [0]": "unknown key 'sedes'; known keys here are axes, base, compare, exclude",
    "axes.seed = [0, 1]": "axes.seed: an axis cannot be called 'seed'; list them in seeds",
    "axes.status = [0]": "an axis cannot be called 'status'; the results table has",
    "axes.rounds.short = {training.rounds = 1}": "an axis cannot be called 'rounds'; the results",
    "axes.baseline.low = {}": "an axis cannot be called 'baseline'",
    '[axes]\n"adapter.rank" = [2020-01-01]': (
        "adapter.rank = '2020-01-01': input should be a valid integer"
    ),
    "axes.preset = []": "axes.preset has no values",
    "axes.preset = 'paper'": "axes.preset = 'paper': must be a list of values, or settings",
    'axes.preset = ["paper", "paper"]': "axes.preset names paper twice",
    "axes.training.rounds = [1, 2]": "axes.training.rounds = [1, 2]: must be a table of settings",
    '[axes]\n"training.round" = [1]': (
        "cell training.round=1: unknown key 'training.round'; known keys here are"
    ),
    "[axes]\npreset = ['poper']": "cell preset=poper: preset = 'poper': must be one of",
    "[axes.a.x]\nadapter.kind = 'fool'": "cell a=x: unknown adapter 'fool'; known are",
    "base.seed = 1": "seed: list the seeds in seeds, at the top of the file",
    "base.data.source = 'nowhere'": "data.source = 'nowhere' is neither 'synthetic' nor a folder",
    "[[extra]]\nlabels = {a = 'b'}": "extra.0.labels: 'a' is no axis; axes are",
    "axes.preset = ['paper']\n[[extra]]\nlabels = {preset = 'paper'}": "two cells are called",
    "exclude = [{a = 'b'}]": "exclude.0: 'a' is no axis",
    "exclude = [{preset = 'p'}]\naxes.preset = ['paper']": "exclude.0 fits no cell",
    "exclude = [{preset = '*'}]\naxes.preset = ['paper']": "exclude leaves no cell",
    "axes.preset = ['paper']\ncompare = {axis = 'preset', reference = 'x'}": (
        "compare.reference = 'x': must be a label of preset, which has paper"
    ),
    "axes.preset = ['paper', 'fedpeft']\ncompare = {axis = 'preset', reference = 'paper'}\n"
    "exclude = [{preset = 'paper'}]": "compare.reference = 'paper': exclude leaves no cell of it",
    "[search]\ntrials = 1\nkeys.seed = {low = 1, high = 3}": "search.keys.seed: list the seeds in",
    "[search]\ntrials = 1\n[search.keys]\n'evaluation.test' = {choices = [true]}": (
        "search.keys.evaluation.test: how runs are measured, and on what, cannot be searched for"
    ),
    "[search]\ntrials = 1\n[search.keys]\n'data.min_interactions' = {low = 3, high = 9}": (
        "search.keys.data.min_interactions: how runs are measured, and on what, cannot be"
    ),
    "[axes.a.x]\nadapter.rank = 1\n[search]\ntrials = 1\n[search.keys]\n"
    "'adapter.rank' = {low = 1, high = 3}": "search.keys.adapter.rank: the axis a sets it",
    "[axes]\npreset = ['paper']\n[search]\ntrials = 1\n[search.keys]\n"
    "preset = {choices = ['paper']}": "search.keys.preset: the axis preset sets it",
    "axes.preset = ['fedpeft[1]']\nexclude = [{preset = 'fedpeft[12]'}]": "exclude.0 fits no cell",
    "exclude = [{preset = 'p?per'}]\naxes.preset = ['paper']": "exclude.0 fits no cell",
    '[axes]\n"training.rounds" = [2, 3]\n[axes.v.x]\ntraining.rounds = 1': (
        "has training.rounds = 1, as another axis or extra sets it too; drop one of them"
    ),
    "[axes]\n" + "\n".join(f'"a.{name}" = {list(range(40))}' for name in "bcdefg"): (
        "the axes have 4,096,000,000 combinations, more than 100,000"
    ),
    "compare = {axis = 'x', reference = 'x'}": "compare.axis: 'x' is no axis",
    "compare = {axis = 'x'}": "compare.reference is missing",
    "search = {trials = 1, keys = {}}": "search.keys = {}: ",
    "search = {trials = 1, keys = {a = {low = 2, high = 1}}}": (
        "search.keys.a: high (1) must be above low (2)"
    ),
    "search = {trials = 1, keys = {a = {low = 0, high = 1, log = true}}}": (
        "search.keys.a: low (0) must be above 0 on a logarithmic scale"
    ),
    "seeds = ": "is not valid TOML",
}


@pytest.mark.parametrize(("text", "said"), BAD.items(), ids=list(BAD))
def test_bad_grid(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        cells_of(tmp_path, text)
    sentence = str(refusal.value)
    assert said in sentence
    assert "grid.toml" in sentence
    assert "\n" not in sentence


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_grid(tmp_path / "none.toml", tmp_path)


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_committed_grids_resolve(path: Path, tmp_path: Path) -> None:
    for name in ("ml-1m", "ml-100k", "amazon-industrial"):
        (tmp_path / name).mkdir()
    grid = read_grid(path, tmp_path)
    assert len(grid.file.seeds) >= 3
    assert len(grid.cells()) == len(grid.settings) * len(grid.file.seeds)


def test_hash_tells_settings_apart_and_no_more(tmp_path: Path) -> None:
    """A value in the file that is the default is no other setting; another value is one."""

    def hash_of(**settings: Any) -> str:
        return resolve_cell({}, {"seed": 0, **settings}, tmp_path).hash

    assert hash_of() == hash_of(evaluation={"every": 50}, training={"rounds": 1000})
    others = [
        hash_of(seed=1),
        hash_of(evaluation={"every": 25}),
        hash_of(training={"rounds": 999}),
        hash_of(training={"rounds": 100}),
        hash_of(training={"rounds": 100}, evaluation={"every": 50}),
        hash_of(training={"refresh_every": 51}),
        hash_of(adapter={"rank": 3}),
        hash_of(adapter={"kind": "hash"}),
        hash_of(items={"dim": 16}),
        hash_of(loss={"kind": "bpr"}),
        hash_of(preset="paper"),
    ]
    assert len({hash_of(), *others}) == 1 + len(others)
