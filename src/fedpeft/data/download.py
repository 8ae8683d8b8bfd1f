"""Official archives: download with resume, verify, unpack, and put in place all at once."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import stat
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import IO

from rich.console import Console
from rich.progress import Progress

from fedpeft.errors import ConfigError, DataError

_CHUNK = 1 << 18  # bytes per read
_TIMEOUT = 30  # seconds without an answer
_MOST = 1 << 30  # bytes of a file, as it is fetched
_MOST_UNPACKED = 1 << 33  # bytes of what is in it


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch.

    Attributes
    ----------
    url
        Where its publisher offers it.
    md5
        As published; None where nothing is published.  The length that the server announces and
        the checksums inside the zip or gzip file are verified in any case.
    """

    url: str
    md5: str | None = None

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.url).name


@dataclass(frozen=True)
class Source:
    """A data set on offer: its files and the terms of its publisher."""

    files: tuple[RemoteFile, ...]
    terms: str


_MOVIELENS = "https://files.grouplens.org/datasets/movielens"
_AMAZON = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2"
_MOVIELENS_TERMS = (
    "Research use, no redistribution without permission, no commercial use without permission; "
    "cite Harper and Konstan 2015, DOI 10.1145/2827872."
)

SOURCES = MappingProxyType(
    {
        "ml-100k": Source(
            (RemoteFile(f"{_MOVIELENS}/ml-100k.zip", "0e33842e24a9c977be4e0107933c0723"),),
            _MOVIELENS_TERMS,
        ),
        "ml-1m": Source(
            (RemoteFile(f"{_MOVIELENS}/ml-1m.zip", "c4d9eecfca2ab87c1945afe126590906"),),
            _MOVIELENS_TERMS,
        ),
        # replaced by its publisher from time to time, so no checksum can be fixed here
        "ml-latest-small": Source(
            (RemoteFile(f"{_MOVIELENS}/ml-latest-small.zip"),), _MOVIELENS_TERMS
        ),
        # no checksums are published
        "amazon-industrial": Source(
            (
                RemoteFile(f"{_AMAZON}/categoryFilesSmall/Industrial_and_Scientific_5.json.gz"),
                RemoteFile(f"{_AMAZON}/metaFiles2/meta_Industrial_and_Scientific.json.gz"),
            ),
            "No terms are stated; cite Ni, Li and McAuley, EMNLP 2019.",
        ),
    }
)
"""Data sets that `get` knows."""


def get(
    name: str, folder: Path | str, *, url: str | None = None, progress: bool | None = None
) -> Path:
    """Download a data set, unless it is there, and return its folder ``folder / name``.

    An interrupted download is kept as ``*.part`` and resumed by the next call.  The folder of the
    data set appears whole or not at all.

    Parameters
    ----------
    name
        A key of `SOURCES`.
    folder
        Where data sets are kept; made if it is missing.
    url
        A mirror: the address of a folder that holds the files under their own names.
    progress
        Show a progress bar on standard error; None: only if that is a terminal.

    Raises
    ------
    ConfigError
        If the name is unknown or the address is not HTTP.
    DataError
        If a file cannot be fetched, differs from what is published, is larger than any data set
        on offer, or is not safe to unpack.
    """
    if name not in SOURCES:
        raise ConfigError(f"unknown data set {name!r}; known are {', '.join(sorted(SOURCES))}")
    if url is not None and not url.startswith(("http://", "https://")):
        raise ConfigError(f"url = {url!r} must start with http:// or https://")
    folder = Path(folder)
    target = folder / name
    if target.is_dir():
        return target
    files = SOURCES[name].files
    parts = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            part = folder / f"{file.name}.part"
            address = file.url if url is None else f"{url.rstrip('/')}/{file.name}"
            fetch(file, address, part, show=sys.stderr.isatty() if progress is None else progress)
            verify(file, part)
            parts.append(part)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as work:
            content = Path(work) / name
            content.mkdir()
            for file, part in zip(files, parts, strict=True):
                _unpack(file, part, content)
            inner = list(content.iterdir())
            # an archive that wraps its files in one folder is that folder
            single = inner[0] if len(inner) == 1 and inner[0].is_dir() else content
            single.replace(target)
    except OSError as error:
        raise DataError(f"{error.filename or folder} cannot be written: {error.strerror}") from None
    for part in parts:
        part.unlink(missing_ok=True)
    return target


def fetch(file: RemoteFile, address: str, part: Path, *, show: bool) -> None:
    """Fetch `address` into `part`, going on where an earlier attempt stopped.

    Raises
    ------
    DataError
        If the server cannot be reached, refuses, sends on to an address that is not secure, or
        stops early; what has arrived is kept.  If it sends too much, or `part` is no file.
    """
    if part.is_symlink() or (part.exists() and not part.is_file()):
        raise DataError(f"{part} is no file of a download; remove it")
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "fedpeft"} | ({"Range": f"bytes={done}-"} if done else {})
    request = urllib.request.Request(address, headers=headers)
    total: int | None = None
    cut = False
    try:
        with _OPENER.open(request, timeout=_TIMEOUT) as answer:
            done = _start(answer, address, done)
            announced = answer.headers.get("Content-Length", "")
            told = announced.isdecimal() and len(announced) < 20
            total = done + int(announced) if told else None
            _check_size(address, total or 0, _MOST)
            received = _receive(answer, address, part, done, total, show)
            cut = total is not None and received < total
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing lies beyond what is here; `verify` decides
            return
        raise DataError(f"{address} answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise DataError(f"{address} cannot be reached: {error.reason}") from None
    except (TimeoutError, ConnectionError, http.client.HTTPException):
        cut = True
    if cut:
        arrived = part.stat().st_size if part.exists() else 0
        raise DataError(
            f"{address} stopped after {arrived} of {total or 'an unknown number of'} bytes; "
            "run the command again to go on from there"
        )


class _StaysSecure(urllib.request.HTTPRedirectHandler):
    """Follows a server that sends elsewhere, but never from HTTPS to anything else."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        allowed = ("https:",) if req.type == "https" else ("https:", "http:")
        if not newurl.lower().startswith(allowed):
            raise DataError(
                f"{req.full_url} sends on to {newurl}, which is not HTTPS, so anyone on the way "
                "could change what arrives"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_StaysSecure)


def _check_size(what: str, size: int, most: int) -> None:
    """Raise `DataError` for more bytes than any data set on offer has."""
    if size > most:
        raise DataError(f"{what} has more than {most:,} bytes, which no data set here has")


def _start(answer: http.client.HTTPResponse, address: str, done: int) -> int:
    """Return the byte at which the answer starts: where it was asked to, or 0."""
    if answer.status != 206:
        return 0
    said = answer.headers.get("Content-Range", "")
    if not said.startswith(f"bytes {done}-"):
        raise DataError(f"{address} was asked to go on from byte {done}, but sent {said!r}")
    return done


def _receive(
    answer: http.client.HTTPResponse,
    address: str,
    part: Path,
    done: int,
    total: int | None,
    show: bool,
) -> int:
    """Write the answer behind the first `done` bytes of `part`; return the bytes in it."""
    bar = Progress(console=Console(stderr=True), disable=not show)
    # a folder that others may write to may hold a link by this name
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with bar, os.fdopen(handle, "wb") as out:
        task = bar.add_task(part.stem, total=total, completed=done)
        out.truncate(done)
        out.seek(done)
        while chunk := answer.read(_CHUNK):
            done += len(chunk)
            if done > _MOST:
                part.unlink()
            _check_size(address, done, _MOST)
            out.write(chunk)
            bar.update(task, completed=done)
    return done


def verify(file: RemoteFile, part: Path) -> None:
    """Check the MD5 and the archive's own checksums; a file that fails is removed.

    Raises
    ------
    DataError
        If the file is not what was published, is damaged, or would unpack outside its folder.
    """
    try:
        if file.md5 is not None:
            with part.open("rb") as content:
                md5 = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False))
            if md5.hexdigest() != file.md5:
                raise DataError(
                    f"{file.name} has MD5 {md5.hexdigest()}, but {file.md5} is published"
                )
        _check_archive(file, part)
    except DataError:
        part.unlink()
        raise


def _check_archive(file: RemoteFile, part: Path) -> None:
    try:
        if file.name.endswith(".zip"):
            with zipfile.ZipFile(part) as archive:
                members = archive.infolist()
                for member in members:
                    _check_member(file, member)
                # no member is unpacked to more than it announces
                unpacked = sum(member.file_size for member in members)
                _check_size(f"{file.name}, unpacked,", unpacked, _MOST_UNPACKED)
                damaged = archive.testzip()
            if damaged:
                raise DataError(f"{file.name} is damaged at {damaged}")
        else:
            unpacked = 0
            with gzip.open(part) as content:
                while chunk := content.read(_CHUNK):
                    unpacked += len(chunk)
                    _check_size(f"{file.name}, unpacked,", unpacked, _MOST_UNPACKED)
    except (zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile, RuntimeError) as error:
        # RuntimeError: encrypted, or compressed in a way unknown here
        raise DataError(f"{file.name} is not a complete archive: {error}") from None


def _check_member(file: RemoteFile, member: zipfile.ZipInfo) -> None:
    path = PureWindowsPath(member.filename)  # knows both kinds of slash, and drives
    link = stat.S_ISLNK(member.external_attr >> 16)
    if path.anchor or ".." in path.parts or link:
        raise DataError(f"{file.name} holds {member.filename!r}, which is not safe to unpack")


def _unpack(file: RemoteFile, part: Path, content: Path) -> None:
    """Put a verified file into the folder: zip files unpacked, gzip files as they are."""
    if file.name.endswith(".zip"):
        with zipfile.ZipFile(part) as archive:
            archive.extractall(content)
    else:
        part.replace(content / file.name)
