"""Downloads, against a server on the loopback interface."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import threading
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest

from fedpeft.data import DataConfig, download, get, load
from fedpeft.errors import ConfigError, DataError

from .folders import amazon_2018, movielens_1m


@dataclass
class Server:
    """What the server offers and how it behaves."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    """Whether it honours Range."""
    stop_after: int | None = None
    """Bytes after which the next answer is cut."""
    shift: int = 0
    """By how much it misses the byte it is asked to go on from."""
    tells_length: bool = True
    """Whether it says how long its answer is."""
    sends_on: str = ""
    """Where it sends whoever asks for something old."""
    asked: list[str | None] = field(default_factory=list)
    """The Range of each request."""


def answer(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.asked.append(asked)
            if "/old/" in self.path:
                self.send_response(302)
                self.send_header("Location", server.sends_on)
                self.end_headers()
                return
            data = server.files.get(self.path.rsplit("/", 1)[1])
            if data is None:
                self.send_error(404)
                return
            start = 0
            if asked and server.ranges:
                start = int(asked.removeprefix("bytes=").removesuffix("-")) + server.shift
                if start >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            if server.tells_length:
                self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            end = len(data) if server.stop_after is None else start + server.stop_after
            server.stop_after = None
            self.wfile.write(data[start:end])

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    state = Server()
    with ThreadingHTTPServer(("127.0.0.1", 0), answer(state)) as http:
        state.url = f"http://127.0.0.1:{http.server_port}/data"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def zipped(folder: Path) -> bytes:
    """Zip a folder under its own name, as MovieLens archives are."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{folder.name}/{path.name}")
    return out.getvalue()


@pytest.fixture
def archive(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Offer a made-up ml-1m.zip whose MD5 is the published one."""
    data = zipped(movielens_1m(tmp_path / "made" / "ml-1m"))
    server.files["ml-1m.zip"] = data
    offer(monkeypatch, data)
    return data


def offer(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    file = download.RemoteFile("http://nowhere.invalid/ml-1m.zip", hashlib.md5(data).hexdigest())
    sources = dict(download.SOURCES) | {"ml-1m": download.Source((file,), "none")}
    monkeypatch.setattr(download, "SOURCES", MappingProxyType(sources))


def left(folder: Path) -> list[str]:
    """Return the names of what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("archive")
def test_download_unpacks_and_loads(server: Server, tmp_path: Path) -> None:
    home = tmp_path / "a" / "data"
    folder = get("ml-1m", home, url=server.url)
    assert folder == home / "ml-1m"
    assert left(home) == ["ml-1m"]
    assert load(DataConfig(source=str(folder))).n_users == 2
    server.files.clear()
    assert get("ml-1m", home, url=server.url) == folder  # there already: nothing is asked
    assert server.asked == [None]


def test_progress_bar_when_asked_for(
    server: Server, archive: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    get("ml-1m", tmp_path / "quiet", url=server.url)
    assert capsys.readouterr().err == ""  # not a terminal
    get("ml-1m", tmp_path / "loud", url=server.url, progress=True)
    assert "ml-1m.zip" in capsys.readouterr().err


def test_resume_after_a_cut_connection(server: Server, archive: bytes, tmp_path: Path) -> None:
    server.stop_after = 100
    with pytest.raises(DataError, match=f"stopped after 100 of {len(archive)} bytes; run the"):
        get("ml-1m", tmp_path / "data", url=server.url)
    assert left(tmp_path / "data") == ["ml-1m.zip.part"]
    folder = get("ml-1m", tmp_path / "data", url=server.url)
    assert server.asked == [None, "bytes=100-"]
    assert load(DataConfig(source=str(folder))).n_users == 2
    assert left(tmp_path / "data") == ["ml-1m"]


def test_resume_without_range_support(server: Server, archive: bytes, tmp_path: Path) -> None:
    server.ranges = False
    server.stop_after = len(archive) - 1
    with pytest.raises(DataError, match="stopped after"):
        get("ml-1m", tmp_path / "data", url=server.url)
    assert load(DataConfig(source=str(get("ml-1m", tmp_path / "data", url=server.url)))).n_users


def test_part_that_is_complete(server: Server, archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ml-1m.zip.part").write_bytes(archive)
    get("ml-1m", tmp_path / "data", url=server.url)
    assert left(tmp_path / "data") == ["ml-1m"]


def test_part_of_another_file(server: Server, archive: bytes, tmp_path: Path) -> None:
    """A stale part cannot slip through: the checksum fails, and the next call starts anew."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ml-1m.zip.part").write_bytes(b"x" * 50)
    with pytest.raises(DataError, match="has MD5"):
        get("ml-1m", tmp_path / "data", url=server.url)
    assert left(tmp_path / "data") == []
    get("ml-1m", tmp_path / "data", url=server.url)


@pytest.mark.usefixtures("archive")
def test_server_that_goes_on_from_elsewhere(server: Server, tmp_path: Path) -> None:
    server.shift = 5
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ml-1m.zip.part").write_bytes(b"x" * 50)
    with pytest.raises(DataError, match="go on from byte 50, but sent 'bytes 55-"):
        get("ml-1m", tmp_path / "data", url=server.url)


@pytest.mark.usefixtures("archive")
def test_wrong_checksum(server: Server, tmp_path: Path) -> None:
    server.files["ml-1m.zip"] += b"!"
    with pytest.raises(DataError, match=r"ml-1m.zip has MD5 .* is published"):
        get("ml-1m", tmp_path / "data", url=server.url)
    assert left(tmp_path / "data") == []


@pytest.mark.usefixtures("archive")
def test_not_found(server: Server, tmp_path: Path) -> None:
    server.files.clear()
    with pytest.raises(DataError, match=r"ml-1m.zip answered 404 Not Found"):
        get("ml-1m", tmp_path / "data", url=server.url)
    assert left(tmp_path / "data") == []


def test_unreachable(server: Server, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), answer(server)) as closed:
        port = closed.server_port
    with pytest.raises(DataError, match=r"cannot be reached: .*refused"):
        get("ml-1m", tmp_path / "data", url=f"http://127.0.0.1:{port}")


def evil(name: str, mode: int = stat.S_IFREG | 0o644) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, "/etc")
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        evil("../evil"),
        evil("ml-1m/../../evil"),
        evil("/evil"),
        evil("..\\evil"),
        evil("C:evil"),
        evil("ml-1m/link", stat.S_IFLNK | 0o777),
    ],
)
def test_unsafe_archive(
    data: bytes, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, data)
    server.files["ml-1m.zip"] = data
    with pytest.raises(DataError, match="which is not safe to unpack"):
        get("ml-1m", tmp_path / "a" / "data", url=server.url)
    assert left(tmp_path) == ["a"]
    assert left(tmp_path / "a" / "data") == []


def damage(data: bytes) -> bytes:
    middle = len(data) // 3
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


@pytest.mark.parametrize("harm", [damage, lambda data: data[:-30], lambda data: b"<html>"])
def test_damaged_archive(
    harm: Callable[[bytes], bytes],
    server: Server,
    archive: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = harm(archive)
    offer(monkeypatch, data)
    server.files["ml-1m.zip"] = data
    with pytest.raises(DataError, match=r"ml-1m.zip is (damaged at|not a complete archive)"):
        get("ml-1m", tmp_path / "data", url=server.url)
    assert left(tmp_path / "data") == []


def test_two_files_without_published_checksums(server: Server, tmp_path: Path) -> None:
    made = amazon_2018(tmp_path / "made")
    reviews, meta = (file.name for file in download.SOURCES["amazon-industrial"].files)
    server.files[reviews] = (made / "Things_5.json.gz").read_bytes()
    whole = (made / "meta_Things.json.gz").read_bytes()
    server.files[meta] = gzip.compress(b"{}" * 9)[:-4]
    with pytest.raises(DataError, match=rf"{meta} is not a complete archive"):
        get("amazon-industrial", tmp_path / "data", url=server.url)
    assert left(tmp_path / "data") == [f"{reviews}.part"]
    server.files[meta] = whole
    folder = get("amazon-industrial", tmp_path / "data", url=server.url)
    assert left(tmp_path / "data") == ["amazon-industrial"]
    assert load(DataConfig(source=str(folder))).n_users == 2


def test_folder_that_cannot_be_written(server: Server, archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        get("ml-1m", tmp_path / "data", url=server.url)


def test_more_than_any_data_set_has(
    server: Server, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_MOST", len(archive) - 1)
    with pytest.raises(DataError, match=r"ml-1m.zip has more than [\d,]+ bytes, which no data set"):
        get("ml-1m", tmp_path / "data", url=server.url)
    assert left(tmp_path / "data") == []
    server.tells_length = False
    with pytest.raises(DataError, match="has more than"):
        get("ml-1m", tmp_path / "data", url=server.url)
    assert left(tmp_path / "data") == []


@pytest.mark.parametrize("name", ["ml-1m", "amazon-industrial"])
def test_what_unpacks_to_too_much(
    name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = tmp_path / "made" / "zeros"
    zeros.parent.mkdir()
    zeros.write_bytes(bytes(3_000_000))
    zipped_zeros = zipped(zeros.parent)
    offer(monkeypatch, zipped_zeros)
    server.files["ml-1m.zip"] = zipped_zeros
    for file in download.SOURCES["amazon-industrial"].files:
        server.files[file.name] = gzip.compress(zeros.read_bytes())
    monkeypatch.setattr(download, "_MOST_UNPACKED", 2_000_000)
    with pytest.raises(DataError, match="unpacked, has more than 2,000,000 bytes"):
        get(name, tmp_path / "data", url=server.url)
    assert left(tmp_path / "data") == []


def test_a_member_that_lies_about_its_size(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not unpacked to more than it announces."""
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "zeros").write_bytes(bytes(3_000_000))
    data = zipped(tmp_path / "made").replace((3_000_000).to_bytes(4, "little"), bytes([1, 0, 0, 0]))
    offer(monkeypatch, data)
    server.files["ml-1m.zip"] = data
    with pytest.raises(DataError, match=r"ml-1m.zip is (damaged at|not a complete archive)"):
        get("ml-1m", tmp_path / "data", url=server.url)
    assert left(tmp_path / "data") == []


@pytest.mark.usefixtures("archive")
def test_redirects(server: Server, tmp_path: Path) -> None:
    server.sends_on = server.url + "/ml-1m.zip"
    assert get("ml-1m", tmp_path / "data", url=server.url + "/old").is_dir()
    server.sends_on = "ftp://127.0.0.1/ml-1m.zip"
    with pytest.raises(DataError, match=r"sends on to ftp://.*, which is not HTTPS"):
        get("ml-1m", tmp_path / "other", url=server.url + "/old")


@pytest.mark.parametrize("to", ["http://evil.invalid/ml-1m.zip", "file:///etc/passwd", "HTTP://x"])
def test_redirects_stay_on_https(to: str) -> None:
    asked = urllib.request.Request("https://files.invalid/ml-1m.zip")
    with pytest.raises(DataError, match="which is not HTTPS"):
        download._StaysSecure().redirect_request(asked, io.BytesIO(), 302, "", HTTPMessage(), to)
    went = download._StaysSecure().redirect_request(
        asked, io.BytesIO(), 302, "", HTTPMessage(), "https://other.invalid/ml-1m.zip"
    )
    assert went is not None


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_what_is_planted_where_a_download_goes(kind: str, server: Server, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    part = tmp_path / "data" / "ml-1m.zip.part"
    part.parent.mkdir()
    if kind == "link":
        part.symlink_to(precious)
    elif kind == "dangling":
        part.symlink_to(tmp_path / "new")
    elif kind == "pipe":
        os.mkfifo(part)
    else:
        part.mkdir()
    with pytest.raises(DataError, match=r"ml-1m.zip.part is no file of a download; remove it"):
        get("ml-1m", tmp_path / "data", url=server.url)
    assert precious.read_text() == "years of work"
    assert not (tmp_path / "new").exists()


def test_unknown_name_and_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown data set 'ml-2m'; known are amazon-industrial"):
        get("ml-2m", tmp_path)
    with pytest.raises(ConfigError, match="must start with http"):
        get("ml-1m", tmp_path, url="file:///etc")


def test_every_source_is_https_and_states_terms() -> None:
    for source in download.SOURCES.values():
        assert source.terms
        assert all(file.url.startswith("https://") for file in source.files)
