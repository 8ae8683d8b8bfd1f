"""Tables on terminals of any width, and in pipes."""

from __future__ import annotations

import re
from io import StringIO
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedpeft.cli import tables
from fedpeft.cost import costs
from fedpeft.cost.table import as_rich
from fedpeft.experiment.costs import scale_of, strategies

WORDS = st.text("abcdefgh0123456789.,%-", min_size=1, max_size=12)
CELLS = st.lists(WORDS, max_size=3).map(" ".join)
SHEETS = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.lists(CELLS, min_size=n, max_size=n),
        st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=4),
    )
)


def shown(table: Table, width: int | None) -> str:
    """Return what is printed on a terminal so wide, or in a pipe."""
    out = StringIO()

    def console(**_: object) -> Console:
        return Console(
            file=out, width=width, force_terminal=width is not None, color_system=None, _environ={}
        )

    with patch.object(tables, "Console", console):
        tables.print_table(table)
    return out.getvalue()


def table_of(headings: list[str], rows: list[list[str]], title: str | None = None) -> Table:
    table = Table(*map(escape, headings), title=title, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


@settings(deadline=None)
@given(sheet=SHEETS, width=st.integers(20, 120))
def test_no_word_is_broken_on_a_terminal(
    sheet: tuple[list[str], list[list[str]]], width: int
) -> None:
    headings, rows = sheet
    text = shown(table_of(headings, rows), width)
    assert all(len(line) <= width for line in text.splitlines())
    words = {word for line in (headings, *rows) for cell in line for word in cell.split()}
    said = {word for word in re.split(r"[\s─]+", text) if word}
    for word in said - words:
        cut = word.rstrip("…")
        named = word.endswith(":") and word[:-1] in words  # a heading before its cell
        assert named or (word != cut and any(whole.startswith(cut) for whole in words)), text
    assert {w for row in rows for cell in row[1:] for w in cell.split() if len(w) < 16} <= said


@settings(deadline=None)
@given(sheet=SHEETS)
def test_a_pipe_has_every_row_in_one_line(sheet: tuple[list[str], list[list[str]]]) -> None:
    headings, rows = sheet
    lines = [line.split() for line in shown(table_of(headings, rows), None).splitlines()]
    expected = [words for row in rows if (words := " ".join(row).split())]
    assert [words for words in lines if words][-len(expected) or len(lines) :] == expected


def test_long_labels_are_cut_and_numbers_are_not() -> None:
    label = "P-Hash-SENet-512x2-with-a-long-name"
    table = table_of(["Run", "NDCG@10 full", "Bytes / round"], [[label, "0.4123", "12,345,678"]])
    text = shown(table, 40)
    assert re.search(r"^ *P-Hash-SENet-\S*… +0\.4123 +12,345,678 *$", text, re.M), text
    narrow = shown(table, 24)
    assert "NDCG@10 full: 0.4123" in narrow
    assert "12,345,678" in narrow
    assert label in shown(table, None)


def test_a_title_stands_above_in_whole_words() -> None:
    title = "some/long/path/to/a/run, user 5, round 3"
    table = table_of(["a"], [["1"]], title)
    assert shown(table, None).splitlines()[0] == title
    table.title = title
    first, second, *_ = shown(table, 30).splitlines()
    assert (first.rstrip(), second) == ("some/long/path/to/a/run, user", "5, round 3")


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("items", [1, 3706, 10_000_000])
def test_costs_on_narrow_terminals(items: int, width: int) -> None:
    scale = scale_of({}, items=items)
    found = costs(strategies({}), scale, measured=False)
    for table, again in zip(as_rich(found, scale), as_rich(found, scale), strict=True):
        whole = set(shown(again, None).split())
        text = shown(table, width)
        assert all(len(line) <= width for line in text.splitlines())
        numbers = {word for word in whole if re.fullmatch(r"[\d,]*\d\d\.?\d*", word)}
        assert numbers <= set(text.split())
