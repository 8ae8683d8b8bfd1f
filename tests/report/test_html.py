"""The page: complete, offline, escaped, written whole."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedpeft.errors import InputError
from fedpeft.report import read_run
from fedpeft.report.html import write_png, write_report

from .folders import FINGERPRINT, result, simulated_run, write_run

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs")
    full = simulated_run(folder / "full", "Full", 474_368, 0.421)
    lora = simulated_run(folder / "lora", "P-LoRA r=4", 59_808, 0.416, merge=50)
    write_report([read_run(full), read_run(lora)], folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_holds_the_numbers(page: str) -> None:
    text = " ".join(Page(page).text)
    for expected in (
        "2 runs on toy", FINGERPRINT, "0123456789ab-dirty", "fedpeft 0.1.0", "90,000", "119,616",
        "948,736", "Popularity", "0.2500", "iALS", "100.0", "warm-up ends",
        "reconstruction error",
    ):  # fmt: skip
        assert expected in text, expected


def test_is_well_formed_and_needs_neither_network_nor_script(page: str) -> None:
    parsed = Page(page)
    assert not parsed.open
    assert "://" not in page
    assert not parsed.tags & {"script", "link", "img", "iframe", "object"}
    names = {name for name, _ in parsed.attributes}
    assert not names & {"src", "href", "xlink:href", "id", "onload"}
    assert not re.search(r"url\(|@import", page)
    assert "svg" in parsed.tags


def test_escapes_everything(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>&\"|{{ 7 * 7 }}"
    values = result(
        name=evil,
        config={"adapter": {"kind": evil}},
        commit=evil,
        made_by=evil,
        backend=evil,
        split_fingerprint=evil,
        dataset={"name": evil, "users": 1, "items": 1, "interactions": 1},
        items={evil: evil},
    )
    values["baselines"][evil] = values["baselines"].pop("popularity")
    path = simulated_run(tmp_path / "run", "x", 10.0, 0.3, rounds=30)
    (path / "result.json").write_text(json.dumps(values))
    write_report([read_run(path)], tmp_path / "report.html")
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "script" not in Page(written).tags
    assert "{{ 7 * 7 }}" in written


def test_a_run_that_stopped_before_its_first_round_has_a_report(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", result=result(baselines={}), metrics=[], traffic=[])
    write_report([read_run(path)], tmp_path / "report.html")
    assert "Nothing was recorded." in (tmp_path / "report.html").read_text()


def test_tells_which_part_it_is_of(tmp_path: Path, page: str) -> None:
    values = result(baselines={})
    del values["metrics"]["test"]
    path = write_run(tmp_path / "run", result=values, metrics=[], traffic=[])
    write_report([read_run(path)], tmp_path / "report.html")
    chosen = (tmp_path / "report.html").read_text()
    assert "Figures are of the validation part." in chosen
    assert "Grey:" not in chosen
    assert "Test part." in page
    assert "Grey:" in page


def test_different_splits_are_refused_or_flagged(tmp_path: Path) -> None:
    a = read_run(simulated_run(tmp_path / "a", "A", 10.0, 0.3, rounds=30))
    b = read_run(
        simulated_run(tmp_path / "b", "B", 10.0, 0.3, rounds=30, split_fingerprint="b" * 64)
    )
    target = tmp_path / "report.html"
    target.write_text("before")
    with pytest.raises(InputError, match="another split"):
        write_report([a, b], target)
    with pytest.raises(InputError, match="another split"):
        write_png([a, b], tmp_path / "picture.png")
    assert target.read_text() == "before"
    assert not (tmp_path / "picture.png").exists()
    write_report([a, b], target, allow_different_splits=True)
    text = target.read_text()
    assert "not comparable" in text
    assert "b" * 12 in text
    assert "Popularity" not in text


def test_writes_a_picture(tmp_path: Path) -> None:
    run = read_run(simulated_run(tmp_path / "a", "A", 10.0, 0.3, rounds=30))
    write_png([run], tmp_path / "picture.png", scale=1.0)
    assert (tmp_path / "picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "picture.png"]


def test_a_picture_needs_an_evaluation(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", result=result(), metrics=[], traffic=[]))
    with pytest.raises(InputError, match="nothing to draw"):
        write_png([run], tmp_path / "picture.png")
