"""What the readers share about files: names, bytes, lines and encodings."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from fedpeft.errors import DataError

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OTHER_KINDS = {
    b"\x1f\x8b": "gzip; its name must end in .gz",
    b"PK\x03\x04": "zip (or an Excel workbook); unpack it, or save the sheet as CSV",
    b"PAR1": "Parquet; its name must end in .parquet",
}


def find(folder: Path, names: Container[str]) -> list[Path]:
    """Return the files with one of these lower-case names, whatever their case, sorted."""
    return sorted(path for path in folder.iterdir() if path.name.lower() in names)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is read into one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a complete gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _open(path: Path) -> BinaryIO:
    """Open a file for reading bytes, decompressed if its name ends in ``.gz``."""
    return cast(BinaryIO, gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb"))


def content(path: Path) -> bytes:
    """Return the text of a file as bytes, decompressed, without a byte order mark.

    UTF-16, which needs such a mark, comes back as UTF-8.  Other encodings stay as they are.
    """
    with _reading(path), _open(path) as stream:
        data = stream.read()
    for start, kind in _OTHER_KINDS.items():
        if data.startswith(start):
            raise DataError(f"{path} is no text: its content is {kind}")
    if data.startswith(_UTF_16):
        try:
            data = data.decode("utf-16").encode()
        except UnicodeError:
            raise DataError(f"{path} is not valid UTF-16; save it as UTF-8") from None
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data.strip():
        raise DataError(f"{path} is empty")
    return data


def decoded(path: Path, data: bytes) -> str:
    """Decode UTF-8; raises with the line of the first byte that is none."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = len(data[: error.start + 1].splitlines())
        raise DataError(f"{path}, line {line} is not valid UTF-8; save it as UTF-8") from None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line) of every line that is not blank, without loading all."""
    empty = True
    with _reading(path), _open(path) as stream:
        for number, raw in enumerate(stream, 1):
            line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            try:
                text = line.rstrip(b"\r\n").decode()
            except UnicodeDecodeError:
                raise DataError(
                    f"{path}, line {number} is not valid UTF-8; save it as UTF-8"
                ) from None
            if text.strip():
                empty = False
                yield number, text
    if empty:
        raise DataError(f"{path} is empty")


def fields(path: Path, separator: str, count: int) -> list[list[str]]:
    """Split every line into exactly `count` fields; for small files without quoting.

    The encoding is UTF-8, or Latin-1 if no line with other than ASCII characters is valid UTF-8.
    """
    rows = []
    for number, line in enumerate(io.StringIO(_either(path, content(path)), newline=None), 1):
        row = line.rstrip("\n").split(separator)
        if len(row) == count:
            rows.append(row)
        elif line.strip():
            raise DataError(
                f"{path}, line {number} has {len(row)} fields separated by {separator!r}, "
                f"but {count} are expected"
            )
    return rows


def _either(path: Path, data: bytes) -> str:
    try:
        return decoded(path, data)
    except DataError:
        # Latin-1 text is practically never valid UTF-8 by chance: such a line is UTF-8
        if any(not line.isascii() and _is_utf8(line) for line in data.splitlines()):
            raise
        return data.decode("latin-1")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
