"""A sweep's statistics and page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import polars as pl
import pytest

from fedpeft.errors import ArtifactError
from fedpeft.report.sweeps import facets, read_sweep
from fedpeft.report.sweeps.cells import numbers
from fedpeft.report.sweeps.charts import MOST
from fedpeft.report.sweeps.page import write_sweep_report
from fedpeft.report.verdicts import MAIN, METRICS, verdict

from .sweeps import NOISE, OWN, write_sweep


def test_numbers() -> None:
    assert numbers(["0", "25", "50"]) == [0, 25, 50]
    assert numbers(["2", "4", "Full"]) == [2, 4]
    assert numbers(["Full", "P-LoRA"]) == []
    assert numbers(["8"]) == []


def test_a_sweep_with_a_run_that_left_test_unread_is_of_validation(tmp_path: Path) -> None:
    path = write_sweep(tmp_path / "sweep")
    assert read_sweep(path).part == "test"
    table = pl.read_parquet(path / "results.parquet")
    first = pl.int_range(pl.len()) == 0
    tests = [name for name in table.columns if "test." in name]
    unread = table.with_columns(pl.when(~first).then(pl.col(name)) for name in tests)
    unread.write_parquet(path / "results.parquet")
    assert read_sweep(path).part == "validation"


def test_differences_and_marks(tmp_path: Path) -> None:
    (facet,) = facets(read_sweep(write_sweep(tmp_path)))
    full, lora, hashed = facet.cells
    assert facet.reference is full
    assert (full.best, lora.best, hashed.best) == (True, False, False)
    assert full.to_best is None
    assert lora.to_best == lora.differences[MAIN]  # the reference is the best here
    assert [verdict(cell.to_best) for cell in (lora, hashed)] == ["within noise", "lost"]
    assert list(lora.differences) == list(METRICS)
    expected = [gap - 0.005 for gap in OWN["P-LoRA"]]
    for metric, scale in zip(METRICS, (0.1, 1, 1.6), strict=True):
        assert lora.differences[metric].mean == pytest.approx(scale * mean(expected))
        assert verdict(lora.differences[metric]) == "within noise"
        assert verdict(hashed.differences[metric]) == "lost"
    assert lora.verdict == "won"  # within noise on all three, for an eighth of the bytes
    assert hashed.verdict == "lost"
    assert (full.differences, full.verdict) == ({}, None)
    spread = full.metric("sampled.ndcg@10")
    assert spread is not None
    assert spread.std == pytest.approx(stdev(NOISE))
    assert lora.total_bytes == 5_980_800
    assert full.target_bytes == pytest.approx(0.8 * 47_436_800)  # 4 of 5 evaluations
    assert hashed.target_bytes is None  # it never got there


def test_page(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    axes = {"backbone": ["FedMF", "FedNCF"], "training.refresh_every": ["0", "25", "50"]}
    write_sweep_report(read_sweep(write_sweep(tmp_path / "s", axes=axes)), page)
    text = page.read_text(encoding="utf-8")
    assert "are missing here" not in text
    assert "<script" not in text
    assert not re.search(r"(src|href)=", text)
    plain = re.sub(r"<[^>]*>", "", text)
    for facet in ("toy, FedMF", "toy, FedNCF"):
        assert f"{facet}: NDCG@10 full against everything one client sent and received" in plain
        assert f"{facet}, training.refresh_every" in plain  # its ablation
    heads = re.findall('<th scope="col">([^<]*)</th>', text)[:5]
    assert heads == ["Cell", "NDCG@10 full", "NDCG@10 sampled", "HR@10 sampled", "Verdict"]
    assert "★ 0.0410 ± 0.0001" in plain
    assert "0.0407 ± 0.0004within noise -0.0003[-0.0013, +0.0007]" in plain
    # in both facets P-LoRA and Full with other refreshes, and once P-LoRA whose reference is ★
    assert plain.count("within noise of ★ ") == 8
    assert "= 0." not in plain
    assert "does not say that both are equal" in plain
    assert re.search(r"▼ lost -0\.0398\[-0\.040[56], -0\.0391\]", plain)
    assert plain.count("won if on none") == 1  # the rule is stated once
    assert "Student" in plain
    assert "12.6" in plain  # percent of the reference's bytes
    assert "Nothing was recorded" not in plain


def test_users_with_too_few_negatives_are_told(tmp_path: Path) -> None:
    sweep = read_sweep(write_sweep(tmp_path / "s"))
    write_sweep_report(sweep, tmp_path / "r.html")
    assert "fewer negatives" not in (tmp_path / "r.html").read_text(encoding="utf-8")
    rows = [{**row, "test.short_users": 4 if row["seed"] == 1 else None} for row in sweep.rows]
    write_sweep_report(replace(sweep, rows=rows), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Up to 4 users of a run have fewer negatives than those asked for" in text
    assert "the full ranking is the one to read" in text


def test_a_baseline_that_was_left_out_is_told(tmp_path: Path) -> None:
    sweep = read_sweep(write_sweep(tmp_path / "s"))
    said = "EASE is left out: too many items."
    write_sweep_report(sweep, tmp_path / "r.html")
    assert said not in (tmp_path / "r.html").read_text(encoding="utf-8")
    rows = [{**row, "baselines_left_out": said} for row in sweep.rows]
    write_sweep_report(replace(sweep, rows=rows), tmp_path / "r.html")
    assert said in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_the_grid_file_is_on_the_page(tmp_path: Path) -> None:
    sweep = read_sweep(write_sweep(tmp_path / "s"))
    facts = sweep.facts.model_copy(update={"grid": 'seeds = [0]  # "<b>"'})
    write_sweep_report(replace(sweep, facts=facts), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<pre>seeds = [0]  # &#34;&lt;b&gt;&#34;</pre>" in text


def test_partial_page(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", missing=4)
    write_sweep_report(read_sweep(folder), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "4 of 9 runs are missing here: 0 failed, 0 begun, 4 not started." in text
    assert "1 of 3" in text
    assert "left out" not in text
    assert "Not run yet" not in text


def test_cells_without_anything_are_one_line(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", seeds=(0,), missing=2)
    write_sweep_report(read_sweep(folder), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Not run yet: P-LoRA; P-Hash." in text
    assert text.count('<th scope="row"><span class="swatch"') == 1


def test_target_that_only_some_seeds_reached(tmp_path: Path) -> None:
    sweep = read_sweep(write_sweep(tmp_path / "s"))
    row = next(row for row in sweep.rows if row["strategy"] == "P-LoRA" and row["seed"] == 1)
    row["curve"] = row["curve"][:1]
    [facet] = facets(sweep)
    lora = next(cell for cell in facet.cells if cell.labels["strategy"] == "P-LoRA")
    assert (lora.target_bytes, lora.reached_target) == (None, 2)
    write_sweep_report(sweep, tmp_path / "r.html")
    assert "<td>2 of 3 seeds</td>" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_combinations_without_anything_are_left_out(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", axes={"z": ["y", "x"]}, seeds=(0,))
    sweep = read_sweep(folder)
    assert list(sweep.facts.axes) == ["data.source", "strategy", "z"]
    rows = [row if row["z"] == "y" else {**row, "status": "missing"} for row in sweep.rows]
    object.__setattr__(sweep, "rows", rows)
    write_sweep_report(sweep, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "1 combination, in which nothing has run yet, is left out." in text
    assert "<h3>toy, y</h3>" in text
    assert "toy, x" not in text


@pytest.mark.parametrize("missing", [1, 3])
def test_one_seed_says_so(missing: int, tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", seeds=(0,), missing=missing)
    write_sweep_report(read_sweep(folder), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Only one seed" in text
    assert ("no verdict -0.0001" in text) == (missing < 3)
    assert "within noise of ★" not in text


@pytest.mark.slow
@pytest.mark.parametrize("compare", [True, False])
def test_two_hundred_cells(compare: bool, tmp_path: Path) -> None:
    axes = {
        "backbone": ["A", "B", "C", "D", "E"],
        "training.refresh_every": [str(25 * i) for i in range(5)],
    }
    folder = write_sweep(tmp_path / "s", axes=axes, compare=compare)
    sweep = read_sweep(folder)
    assert len(sweep.rows) == 225
    write_sweep_report(sweep, tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size < 10e6
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert f"the {MOST} best cells" in text
    if not compare:  # a cell in no chart has no colour
        assert MOST <= text.count('<th scope="row"><span class="swatch"') <= MOST + 1


def test_figures_of_different_splits_are_not_compared(tmp_path: Path) -> None:
    """The data may change between two parts of a sweep."""
    sweep = read_sweep(write_sweep(tmp_path / "s"))
    rows = [{**row, "split": "f" * 64} if row["strategy"] == "Full" else row for row in sweep.rows]
    [facet] = facets(replace(sweep, rows=rows))
    assert not any(cell.differences or cell.best or cell.to_best for cell in facet.cells)
    assert [cell.share for cell in facet.cells] == [1.0, None, None]
    write_sweep_report(replace(sweep, rows=rows), tmp_path / "r.html")
    assert "evaluated on 2 splits" in (tmp_path / "r.html").read_text(encoding="utf-8")
    rows = [{**row, "split": "f" * 64} if row["seed"] == 1 else row for row in sweep.rows]
    [facet] = facets(replace(sweep, rows=rows))  # seeds with their own pairs
    assert facet.cells[1].differences[MAIN].n == 3
    rows = [
        {**row, "split": "f" * 64} if (row["seed"], row["strategy"]) == (1, "Full") else row
        for row in sweep.rows
    ]
    [facet] = facets(replace(sweep, rows=rows))
    assert facet.cells[1].differences[MAIN].n == 2


def test_one_reference_may_serve_all(tmp_path: Path) -> None:
    """Where one cell alone has the reference's label, all others are compared with it."""
    folder = write_sweep(tmp_path, axes={"adapter.rank": ["2", "4"]})
    sweep = read_sweep(folder)
    rows = [r for r in sweep.rows if (r["strategy"], r["adapter.rank"]) != ("Full", "4")]
    object.__setattr__(sweep, "rows", rows)
    (facet,) = facets(sweep)
    assert len(facet.cells) == 5
    assert {cell.reference for cell in facet.cells} == {facet.cells[0]}


def test_one_reference_may_serve_a_facet(tmp_path: Path) -> None:
    """The same where several facets have one cell each with the reference's label."""
    axes = {"backbone": ["A", "B"], "adapter.rank": ["2", "4"]}
    sweep = read_sweep(write_sweep(tmp_path, axes=axes))
    rows = [r for r in sweep.rows if (r["strategy"], r["adapter.rank"]) != ("Full", "4")]
    object.__setattr__(sweep, "rows", rows)
    found = facets(sweep)
    assert len(found) == 2
    for facet in found:
        (reference,) = {cell.reference for cell in facet.cells}
        assert reference is facet.cells[0]


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"sweep\.json does not exist"):
        read_sweep(tmp_path)
    folder = write_sweep(tmp_path / "s")
    (folder / "results.parquet").write_bytes(b"none")
    with pytest.raises(ArtifactError, match="is not a readable Parquet file"):
        read_sweep(folder)
    (folder / "results.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"results\.parquet does not exist"):
        read_sweep(folder)
    for text, key in (('{"name": "s"}', "axes"), ('{"name": "s", "axes": {}}', "seeds")):
        (folder / "sweep.json").write_text(text)
        with pytest.raises(ArtifactError, match=f"has no valid '{key}'"):
            read_sweep(folder)
