"""The headline table against hand calculations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from fedpeft.errors import InputError
from fedpeft.report import Run, comparison, read_run
from fedpeft.report.compare import bytes_to_target
from fedpeft.report.table import as_json, as_rich, as_text, megabytes

from .folders import client_bytes, evaluation, result, write_run

LORA = {"adapter": {"kind": "lora", "rank": 4}}


def make(
    tmp_path: Path, name: str, curve: list[tuple[float, float]], total: float, **changes: object
) -> Run:
    """Make a run whose evaluations are (NDCG@10, cumulative bytes)."""
    metrics = [evaluation(10 * i, ndcg, sent) for i, (ndcg, sent) in enumerate(curve, start=1)]
    values = result(name=name, bytes=client_bytes(100.0, 150.0, total), **changes)
    folder = tmp_path / name.replace("/", "_")
    return read_run(write_run(folder, result=values, metrics=metrics, traffic=[]))


@pytest.fixture
def full(tmp_path: Path) -> Run:
    # final validation NDCG@10 is 0.42, so the default target is 0.399
    return make(tmp_path, "Full", [(0.30, 1e6), (0.3985, 2e6), (0.41, 3e6), (0.42, 4e6)], 4e6)


@pytest.fixture
def lora(tmp_path: Path) -> Run:
    curve = [(0.40, 0.5e6), (0.38, 0.75e6), (0.405, 1e6)]
    return make(tmp_path, "LoRA", curve, 1e6, config=LORA)


def test_bytes_to_target_is_the_first_evaluation_that_reached_it(full: Run, lora: Run) -> None:
    assert bytes_to_target(full.curve, 0.399) == 3e6
    assert bytes_to_target(full.curve, 0.3985) == 2e6
    assert bytes_to_target(full.curve, 0.43) is None
    assert bytes_to_target(lora.curve, 0.40) == 0.5e6


def test_default_target_is_95_percent_of_the_full_table(full: Run, lora: Run) -> None:
    compared = comparison([lora, full])
    assert compared.target == pytest.approx(0.399)
    assert "95% of the final 0.4200 of Full" in compared.target_source
    assert [row.target_bytes for row in compared.rows] == [0.5e6, 3e6]


def test_default_target_is_95_percent_of_the_first_run_without_full(
    tmp_path: Path, lora: Run
) -> None:
    other = make(tmp_path, "RQ", [(0.1, 1e6)], 1e6, config={"adapter": {"kind": "rq"}})
    assert "of LoRA" in comparison([lora, other]).target_source


def test_a_target_may_be_given_and_may_be_missed(full: Run, lora: Run) -> None:
    compared = comparison([full, lora], target=0.41)
    assert [row.target_bytes for row in compared.rows] == [3e6, None]
    assert "never" in as_text(compared)


@pytest.mark.parametrize("target", [0.0, -0.1, 1.5, float("nan")])
def test_refuses_a_target_that_no_ndcg_can_have(full: Run, target: float) -> None:
    with pytest.raises(InputError, match=r"target = .*\(0, 1\]"):
        comparison([full], target=target)


def test_percent_refers_to_the_full_table_wherever_it_stands(full: Run, lora: Run) -> None:
    assert [row.percent_of_full for row in comparison([lora, full]).rows] == [25.0, 100.0]
    alone = comparison([lora])
    assert alone.rows[0].percent_of_full is None
    assert alone.full_label is None


def test_round_bytes_count_both_directions(full: Run) -> None:
    assert comparison([full]).rows[0].round_bytes == 250.0


def test_refuses_different_splits_unless_told(tmp_path: Path, full: Run) -> None:
    other = make(tmp_path, "Other", [(0.3, 1e6)], 1e6, split_fingerprint="b" * 64)
    with pytest.raises(InputError, match="another split") as caught:
        comparison([full, other])
    assert "\n" not in str(caught.value)
    compared = comparison([full, other], allow_different_splits=True)
    assert len(compared.rows) == 2
    assert not compared.baselines
    assert any("not comparable" in note for note in compared.notes())


def test_refuses_nothing() -> None:
    with pytest.raises(InputError, match="at least one run"):
        comparison([])


def test_text_is_aligned_markdown(full: Run, lora: Run) -> None:
    text = as_text(comparison([full, lora]))
    assert text.startswith("| Run ")
    table, verdicts, _ = text.split("\n\n")
    lines = table.splitlines()
    assert len(lines) == 2 + 2 + 2  # heading and rule, runs, baselines
    assert len({len(line) for line in lines}) == 1
    assert [len(line) for line in verdicts.splitlines()] == [len(verdicts) // 3] * 3
    assert "Popularity" in lines[4]
    assert lines[4].endswith(" - |")


def test_text_and_terminal_take_odd_names(tmp_path: Path) -> None:
    run = make(tmp_path, "a|b [bold]x[/]", [(0.3, 1e6)], 1e6)
    assert "a\\|b" in as_text(comparison([run]))
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
    console.print(*as_rich(comparison([run])))
    assert "a|b [bold]x[/]" in console.export_text()


def test_numbers_are_whole_in_a_narrow_terminal(tmp_path: Path, full: Run) -> None:
    hashed = make(tmp_path, "P-Hash 512 x 2", [(0.1, 1e6)], 1e6, config=LORA)
    with (tmp_path / "out").open("w") as file:
        Console(width=80, file=file).print(*as_rich(comparison([full, hashed])))
    text = (tmp_path / "out").read_text()
    assert "P-Hash 512 x 2" in text
    words = {"0.6900", "0.4100", "0.0420", "250", "4.00", "25.0", "never"}
    assert words <= set(text.split())


def test_json_keeps_bytes_and_says_what_the_target_was(full: Run, lora: Run) -> None:
    values = json.loads(json.dumps(as_json(comparison([full, lora]))))
    assert values["runs"][1]["target_bytes"] == 0.5e6
    assert values["target"]["validation_ndcg@10"] == pytest.approx(0.399)
    assert values["full"] == "Full"
    assert [row["label"] for row in values["baselines"]] == [
        "Popularity",
        "iALS",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0.000"), (59_808, "0.060"), (1e6, "1.00"), (12_345_678_901, "12,345.68")],
)
def test_megabytes(count: float, text: str) -> None:
    assert megabytes(count) == text


def test_where_a_run_has_not_read_test_all_are_compared_on_validation(
    tmp_path: Path, full: Run
) -> None:
    values = result(baselines={})
    values["metrics"] = {"validation": values["metrics"]["validation"]}
    chosen = read_run(write_run(tmp_path / "chosen", result=values, metrics=[], traffic=[]))
    compared = comparison([full, chosen])
    assert [row.ndcg10 for row in compared.rows] == [0.42, 0.42]
    assert [row.ndcg10 for row in compared.baselines] == [0.26, 0.415]
    assert compared.part == as_json(compared)["part"] == "validation"
    assert "of the validation part" in compared.notes()[0]
    assert comparison([full]).part == "test"


def test_baselines_are_those_of_all_runs(tmp_path: Path, full: Run) -> None:
    baselines = result()["baselines"]
    fewer = make(
        tmp_path, "Fewer", [(0.3, 1e6)], 1e6, baselines={"popularity": baselines["popularity"]}
    )
    none = make(tmp_path, "None", [(0.3, 1e6)], 1e6, baselines={})
    labels = [row.label for row in comparison([none, fewer, full]).baselines]
    assert sorted(labels) == ["Popularity", "iALS"]
    assert [row.label for row in comparison([none, fewer]).baselines] == ["Popularity"]


def test_a_baseline_of_an_earlier_version_keeps_its_name(tmp_path: Path) -> None:
    baselines = result()["baselines"]
    old = make(tmp_path, "Old", [(0.3, 1e6)], 1e6, baselines={"centralised_mf": baselines["ials"]})
    assert [row.label for row in comparison([old]).baselines] == ["Centralised MF"]


def test_a_baseline_that_was_left_out_is_told_once(tmp_path: Path, full: Run) -> None:
    said = "EASE is left out: too many items."
    runs = [
        make(tmp_path, name, [(0.3, 1e6)], 1e6, baselines_left_out=[said]) for name in ("A", "B")
    ]
    assert comparison([*runs, full]).notes().count(said) == 1
    assert said not in comparison([full]).notes()
