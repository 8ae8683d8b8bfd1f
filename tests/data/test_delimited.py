"""CSV as programs write it: read as meant or refused with the line, never fewer rows in silence."""

from __future__ import annotations

import csv
import gzip
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.data.readers.delimited import delimited
from fedpeft.errors import DataError

Rows = list[list[str]]
COMMA = (",", ";", "\t", "|")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("delimited") / "made.csv"


def read(path: Path, text: str | bytes, separators: tuple[str, ...] = COMMA) -> Rows:
    """Return the names and rows that are read; an absent field is empty."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    table = delimited(path, separators)
    assert table.lines is not None
    assert len(table.lines) == table.frame.height
    return [table.frame.columns, *map(list, table.frame.fill_null("").rows())]


def tried(path: Path, text: str | bytes) -> Rows | str:
    """Return what is read or, if nothing is, the sentence that says why, without the path."""
    try:
        return read(path, text)
    except DataError as error:
        return str(error).removeprefix(str(path))


def refusal(path: Path, text: str | bytes) -> str:
    message = tried(path, text)
    assert isinstance(message, str)
    assert "\n" not in message
    return message


def bare(rows: Rows) -> Rows:
    """Leave backslashes out: how many stand for one depends on the writer."""
    return [[cell.replace("\\", "") for cell in row] for row in rows]


READ = {
    "inch marks": ('id,title\nA1,24" monitor\nA2,"oak"\nA3,27"\n', ['24" monitor', "oak", '27"']),
    "doubled quotes": ('id,title\nA1,"5"" wide, ""red"""\n', ['5" wide, "red"']),
    "backslash quotes": ('id,title\nA1,"5\\" wide, red"\nA2,"x"\n', ['5" wide, red', "x"]),
    "backslash quote last": ('id,title\nA1,"5\\""\nA2,"6\\""\n', ['5"', '6"']),
    "backslash last": ('id,title\nA1,"C:\\"\nA2,"x"\n', ["C:\\", "x"]),
    "escaped backslash": ('id,title\nA1,"5\\" C:\\\\"\nA2,"a\\n"\n', ['5" C:\\', "a\\n"]),
    "lines of text": ('id,title\nA1,"one\ntwo"\nA2,"a, b\n\nc"\n', ["one\ntwo", "a, b\n\nc"]),
    "carriage returns": ('id,title\rA1,"x"\rA2,y\r', ["x", "y"]),
    "carriage returns, no quotes": ("id,title\rA1,x\rA2,y", ["x", "y"]),
    "windows": ("id,title\r\nA1,x\r\nA2,\r\n\r\n", ["x", ""]),
    "byte order mark": ("\ufeffid,title\nA1,x\n", ["x"]),
    "byte order mark and quotes": ('\ufeff"id","title"\n"A1","x"\n', ["x"]),
    "empty quoted": ('id,title\nA1,""\nA2,\n', ["", ""]),
    "blank before and after": ("\n\nid,title\nA1,x\n\n\n", ["x"]),
    "one space": ("id, title\nA1, x\n", [" x"]),
    "semicolons": ("id;title\nA1;a, b\n", ["a, b"]),
    "bars": ('id|title\nA1|"a|b"\n', ["a|b"]),
    "other line ends inside": ("id,title\nA1,a\x0bb\x85c\u2028d\n", ["a\x0bb\x85c\u2028d"]),
    "zero byte": ("id,title\nA1,a\x00b\n", ["a\x00b"]),
}


@pytest.mark.parametrize("name", READ)
def test_read_as_meant(name: str, path: Path) -> None:
    text, titles = READ[name]
    names, *rows = read(path, text)
    assert names == ["id", "title"]
    assert [row[1] for row in rows] == titles


def test_other_encodings_of_the_whole(path: Path) -> None:
    text = "id,title\nA1,Café\n"
    for data in (text.encode("utf-16"), text.encode("utf-8-sig")):
        assert read(path, data)[1:] == [["A1", "Café"]]
    zipped = path.with_suffix(".CSV.GZ")
    assert read(zipped, gzip.compress(text.encode()))[1:] == [["A1", "Café"]]


def test_separators_of_two_characters(path: Path) -> None:
    assert read(path, "id::title\n1::a\tb: c\n", ("::", "\t")) == [
        ["id", "title"],
        ["1", "a\tb: c"],
    ]
    with pytest.raises(DataError, match=r"line 2 has 3 fields; 2 fields separated by '::'"):
        read(path, "id::title\n1::a::b\n", ("::",))


REFUSED = {
    "after the quote": ('id,title\nA1,x\nA2,"24" monitor\n', "line 3 holds a quoted field that"),
    "after the quote, escaped": ('id,title\nA1,"5\\" x"\nA2,"24" m\n', "line 3 holds a quoted"),
    "never closed": ('id,title\nA1,x\nA2,"y\nA3,z\nA4,z\n', "line 3 opens a quoted field"),
    "swallowed": ('id,title\nA1,x\nA2,"y\nA3,z"\nA4,"a, b"\n', "line 3 begins a quoted field of"),
    "swallowed, tabs": ('id\ttitle\n1\t"y\n2\tz\n3\tw"\n', "line 2 begins a quoted field of"),
    "swallowed, escaped": ('id,title,n\nA1,"5\\"",1\nA2,"y,2\nA3,z",3\n', "line 3 begins"),
    "two ways": ('id,title\nA1,x\nA2,24\\" monitor\n', r"line 3 holds \", which can be read"),
    "too few": ("id,title\nA1,x\nA2\n", "line 3 has 1 fields; 2 fields separated by ','"),
    "too many": ("id,title\nA1,x\nA2,y,z\nA3\n", "line 3 has 3 fields; 2 fields"),
    "too many, quoted": ('id,title\nA1,"x\ny"\nA2,"y",z\n', "line 4 has 3 fields; 2 fields"),
    "blank": ("id,title\nA1,x\n\nA2,y\n", "line 3 is blank"),
    "two names": ("id,title,id\nA1,x,y\n", "line 1 names two columns 'id'; it must name"),
    "two names, quoted": ('"id","id"\n"A1","x"\n', "line 1 names two columns 'id'; it must name"),
    "latin-1": ("id,title\nA1,x\nA2,Café\n".encode("latin-1"), "line 3 is not valid UTF-8; save"),
    "latin-1, quoted": ('id,title\nA1,"Café"\n'.encode("latin-1"), "line 2 is not valid UTF-8"),
    "half of UTF-16": ("id,title\nA1,x\n".encode("utf-16")[:-1], "is not valid UTF-16"),
    "gzip": (gzip.compress(b"id,title\nA1,x\n"), "its content is gzip; its name must end in .gz"),
    "excel": (b"PK\x03\x04 and so on", "its content is zip (or an Excel workbook)"),
    "endless": ('id,title\nA1,x\nA2,"' + "y" * 200_000 + '"\n', "line 3 holds a field of more"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_line(name: str, path: Path) -> None:
    text, said = REFUSED[name]
    assert said in refusal(path, text)


def test_real_text_of_several_lines_is_not_taken_for_records(path: Path) -> None:
    """One record may look as if it had swallowed others, where others show that text is quoted."""
    texts = ["good, really", "one\ntwo", "one\ntwo, three", "a\n\nb\nc", "x, y\nz"]
    rows = [[f"A{place}", text] for place, text in enumerate(texts)]
    assert read(path, written(rows, quoting=csv.QUOTE_ALL))[1:] == rows


def test_where_a_row_stands(path: Path) -> None:
    path.write_text('id,title\nA1,"x\ny"\nA2,z\n')
    table = delimited(path, COMMA)
    assert (table.where(0), table.where(1)) == (f"{path}, line 2", f"{path}, line 4")
    path.write_text("id,title\nA1,x\nA2,z\n")
    assert delimited(path, COMMA).where(1) == f"{path}, line 3"
    path.write_text("A1,x\nA2,z\n")
    assert delimited(path, COMMA, header=("id", "title")).where(1) == f"{path}, line 2"


def written(rows: Rows, **dialect: object) -> str:
    stream = io.StringIO()
    csv.writer(stream, **dialect).writerows([["id", "title"][: len(rows[0])], *rows])
    return stream.getvalue()


CELLS = st.text(st.sampled_from('ab ,;"\\\n\réx'), max_size=6)
TABLES = st.integers(1, 2).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=6)
)


@given(
    TABLES,
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.booleans(),
)
def test_what_writers_wrote(path: Path, rows: Rows, quoting: int, escaped: bool) -> None:
    """Standard CSV is read as it was meant, the dialect with backslashes too, or refused."""
    dialect = {"escapechar": "\\", "doublequote": False} if escaped else {}
    text = written(rows, quoting=quoting, lineterminator="\r\n", **dialect)
    found = tried(path, text)
    if isinstance(found, str):
        lines = any("\n" in cell or "\r" in cell for row in rows for cell in row)
        assert lines or '\\"' in text
        assert re.match(r", line \d+ (holds|begins|opens|has|is)", found)
    elif escaped and '\\"' not in text:  # then nothing says that backslashes escape
        assert bare(found[1:]) == bare(rows)
    else:
        assert found[1:] == rows


@given(st.text(st.sampled_from('ab,"\\\n\r'), max_size=24), st.sampled_from(["id", "id,title"]))
def test_any_text_against_the_standard_library(path: Path, body: str, header: str) -> None:
    """What is accepted is what Python's strict parser reads; what it refuses is refused."""
    text = f"{header}\n{body}"
    accepted = []
    for dialect in ({}, {"escapechar": "\\"}) if '\\"' in text else ({},):
        stream = io.StringIO(text.rstrip("\r\n"), newline="")
        try:
            rows = list(csv.reader(stream, strict=True, **dialect))
        except csv.Error:
            continue
        if all(len(row) == len(rows[0]) for row in rows):
            accepted.append(bare(rows) if '\\"' in text else rows)
    found = tried(path, text)
    if isinstance(found, str):
        assert re.match(r", line \d+", found)
        assert '"' in text or not accepted
    else:
        assert (bare(found) if '\\"' in text else found) in accepted


@given(st.text(st.sampled_from("ab,\n\r\t é"), max_size=30))
def test_without_quotes_each_line_is_a_row(path: Path, body: str) -> None:
    text = f"id,title\n{body}".rstrip("\r\n")
    lines = [line.split(",") for line in re.split(r"\r\n|\r|\n", text)]
    if all(len(line) == 2 for line in lines):
        assert read(path, text) == lines
    else:
        assert "line" in refusal(path, text)
