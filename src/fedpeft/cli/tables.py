"""Tables on standard output: whole lines in a pipe, lines that end between words on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from fedpeft.foreign import printable

_LABEL = 10
"""Characters that a label keeps at least, its ellipsis among them, where a terminal is narrow."""
_WIDEST = 10_000
"""Characters; no table here is wider."""


def print_table(table: Table) -> None:
    """Print a table, and its title above it, on standard output.

    A pipe or a file gets every row in one line, nothing cut off.  On a terminal cells are broken
    between words.  Where words and numbers do not fit side by side, long labels, which stand in the
    first column, are cut; where that is not enough, every row becomes a paragraph.
    """
    console = Console()
    title, table.title = table.title, None
    if isinstance(title, str):
        _print_text(console, console.render_str(title))
    columns = [[_lines(console, cell) for cell in (c.header, *c.cells)] for c in table.columns]
    least = [max(_longest_word(cell) for cell in cells) for cells in columns]
    natural = [max(_longest_line(cell) for cell in cells) for cells in columns]
    widths: Sequence[int] | None = natural
    if console.is_terminal:
        room = console.width - _frame(console, table, natural)
        whole = [natural[0], *least[1:]]
        cut = [min(natural[0], _LABEL), *least[1:]]
        widths = _fitted(natural, whole, room) or _fitted(whole, cut, room)
    else:
        console.width = _WIDEST
    if widths is None:
        _print_rows(console, table)
        return
    for number, (column, width) in enumerate(zip(table.columns, widths, strict=True)):
        column.width, column.overflow = width, "ellipsis"
        column.no_wrap = number == 0
    console.print(table)


def print_note(text: str, *, stderr: bool = True) -> None:
    """Print a sentence below a table; on a terminal its lines end between words."""
    console = Console(stderr=stderr, highlight=False)
    _print_text(console, Text(printable(text)))


def _print_text(console: Console, text: Text) -> None:
    """Print a text, on a terminal in lines that end between words; longer words are cut."""
    if console.is_terminal:
        console.print(text, overflow="ellipsis", highlight=False)
    else:
        console.print(text, soft_wrap=True, highlight=False)


def _lines(console: Console, cell: object) -> list[str]:
    """Return what a cell shows, line by line."""
    text = console.render_str(cell) if isinstance(cell, str) else cell
    return str(text).splitlines()


def _longest_line(lines: Sequence[str]) -> int:
    return max(map(cell_len, lines), default=0)


def _longest_word(lines: Sequence[str]) -> int:
    return max((cell_len(word) for line in lines for word in line.split()), default=0)


def _frame(console: Console, table: Table, natural: Sequence[int]) -> int:
    """Return the characters that a table takes besides its columns."""
    for column, width in zip(table.columns, natural, strict=True):
        column.width = width
    whole = console.measure(table, options=console.options.update(width=_WIDEST))
    return whole.maximum - sum(natural)


def _fitted(natural: Sequence[int], least: Sequence[int], room: int) -> list[int] | None:
    """Return the widths of columns that fit together, the widest made narrower; None if none do."""
    widths = list(natural)
    while sum(widths) > room:
        spare = [i for i, width in enumerate(widths) if width > least[i]]
        if not spare:
            return None
        widths[max(spare, key=widths.__getitem__)] -= 1
    return widths


def _print_rows(console: Console, table: Table) -> None:
    """Print every row as a paragraph: its label, and below it a line for each other cell."""
    first, *others = table.columns
    for row, label in enumerate(first.cells):
        _print_cell(console, label, 0)
        for column in others:
            _print_cell(console, _named(column, row), 2)


def _named(column: Column, row: int) -> str:
    heading = " ".join(str(column.header).split())
    value = list(column.cells)[row]
    return f"{heading}: {value}" if heading else str(value)


def _print_cell(console: Console, markup: object, indent: int) -> None:
    text = console.render_str(str(markup))
    for line in text.wrap(console, max(1, console.width - indent), overflow="ellipsis"):
        console.print(Text(" " * indent).append_text(line), no_wrap=True, highlight=False)
