"""Downloads from a local server that breaks off, lies and changes its file: whole and checked, or one sentence."""

import base64
import hashlib
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glide.checkpoints import download as module
from glide.checkpoints.download import download, look_up
from glide.checkpoints.partial_file import Served as Seen
from glide.utils.errors import InputError
from support.file_server import FileServer, Served, file_server, starts
from support.paths import ROOT

CONTENT = np.random.default_rng(0).integers(0, 256, 60_000, np.uint8).tobytes()
OTHER = np.random.default_rng(1).integers(0, 256, 50_000, np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = base64.b64encode(hashlib.md5(CONTENT, usedforsecurity=False).digest()).decode()
TIME, LATER = "Thu, 01 Jul 2021 10:00:00 GMT", "Fri, 02 Jul 2021 10:00:00 GMT"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "WAIT", 0.0)
    monkeypatch.setattr(module, "CHUNK", 500)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server({"/base.pt": Served(CONTENT)}) as server:
        yield server


def fetch(server: FileServer, folder: Path, length: int | None = None, sha256: str | None = None) -> bytes:
    download(f"{server.url}/base.pt", folder / "base.pt", length, sha256)
    assert [path.name for path in folder.iterdir()] == ["base.pt"]  # no part is left over
    return (folder / "base.pt").read_bytes()


def refused(server: FileServer, folder: Path, length: int | None = None, sha256: str | None = None) -> str:
    """The sentence of a download that fails; the file is not there."""
    with pytest.raises(InputError) as error:
        download(f"{server.url}/base.pt", folder / "base.pt", length, sha256)
    assert not (folder / "base.pt").exists()
    text = str(error.value)
    assert "\n" not in text and "/base.pt" in text
    return text


def test_a_file_comes_whole_with_its_hash(server: FileServer, tmp_path: Path) -> None:
    seen = look_up(f"{server.url}/base.pt")
    assert (seen.length, seen.etag) == (len(CONTENT), '"one"')
    assert download(seen.url, tmp_path / "base.pt", len(CONTENT), SHA256) == SHA256
    assert (tmp_path / "base.pt").read_bytes() == CONTENT and server.gets() == [""]


@pytest.mark.parametrize("mark", [{}, {"etag": "", "modified": TIME}, {"etag": 'W/"one"', "modified": TIME}])
def test_a_connection_that_breaks_five_times_is_continued(
    server: FileServer, tmp_path: Path, mark: dict[str, str]
) -> None:
    server.files["/base.pt"] = replace(Served(CONTENT, **mark), cuts=[9000, 1, 12_000, 7777, 3000])  # type: ignore[arg-type]
    assert fetch(server, tmp_path, len(CONTENT), SHA256) == CONTENT
    at = starts(server.gets())
    assert len(at) == 6 and at == sorted(at) and 20_000 < at[-1] <= 31_778


def test_a_later_run_continues_what_an_earlier_one_began(server: FileServer, tmp_path: Path) -> None:
    server.files["/base.pt"].cuts = [20_000, *[0] * module.TRIES]
    text = refused(server, tmp_path, len(CONTENT))
    assert "bytes are kept, and the same command continues" in text
    kept = (tmp_path / "base.pt.part").stat().st_size
    assert 0 < kept <= 20_000
    server.asked.clear()
    server.files["/base.pt"].cuts.clear()
    assert fetch(server, tmp_path, sha256=SHA256) == CONTENT
    assert server.gets() == [f"bytes={kept}-"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_stopped_is_continued_by_the_next(
    server: FileServer, tmp_path: Path, number: signal.Signals
) -> None:
    served = server.files["/base.pt"]
    served.held_by, served.held_at = threading.Event(), 40_000
    code = (
        "import sys; from pathlib import Path; from glide.utils.cli import run; "
        "from glide.checkpoints.download import download; import glide.checkpoints.download as module; "
        "module.CHUNK = 500; run(lambda: download(sys.argv[1], Path(sys.argv[2])))"
    )
    url, path, part = f"{server.url}/base.pt", tmp_path / "base.pt", tmp_path / "base.pt.part"
    command = [sys.executable, "-c", code, url, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(3000):
            if part.is_file() and part.stat().st_size >= 30_000:
                break
            time.sleep(0.02)
        process.send_signal(number)
        ends = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
        assert process.wait(120) == ends[number]
    served.held_by.set()
    assert not path.exists() and 30_000 <= part.stat().st_size <= 40_000
    assert fetch(server, tmp_path, sha256=SHA256) == CONTENT
    assert starts(server.gets())[1] >= 30_000


def test_a_run_that_was_killed_before_the_rename_fetches_nothing(server: FileServer, tmp_path: Path) -> None:
    server.files["/base.pt"].cuts = [20_000, *[0] * module.TRIES]
    refused(server, tmp_path)
    (tmp_path / "base.pt.part").write_bytes(CONTENT)
    server.asked.clear()
    assert fetch(server, tmp_path) == CONTENT and not server.asked


def test_a_part_without_its_record_is_begun_again(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "base.pt.part").write_bytes(OTHER[:9000])
    assert fetch(server, tmp_path) == CONTENT and server.gets() == [""]
    (tmp_path / "base.pt").unlink()
    (tmp_path / "base.pt.part").write_bytes(OTHER[:9000])
    (tmp_path / "base.pt.part.json").write_text('{"url": 3, "length": "many"}')
    assert fetch(server, tmp_path) == CONTENT and server.gets() == ["", ""]


def test_without_a_mark_or_ranges_it_begins_again(server: FileServer, tmp_path: Path) -> None:
    server.files["/base.pt"] = Served(CONTENT, etag="", cuts=[9000])
    assert fetch(server, tmp_path) == CONTENT and server.gets() == ["", ""]
    (tmp_path / "base.pt").unlink()
    server.files["/base.pt"] = Served(CONTENT, knows_ranges=False, cuts=[9000])
    assert fetch(server, tmp_path) == CONTENT and server.gets()[-1].startswith("bytes=")


@pytest.mark.parametrize("heeds", [True, False])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"etag": '"two"'}),
        ({"etag": "", "modified": TIME}, {"etag": "", "modified": LATER}),
        ({"etag": 'W/"one"', "modified": TIME}, {"etag": 'W/"two"', "modified": LATER}),
    ],
)
def test_a_file_that_changes_in_between_is_never_mixed(
    server: FileServer, tmp_path: Path, heeds: bool, before: dict[str, str], after: dict[str, str]
) -> None:
    new = Served(OTHER, heeds_if_range=heeds, **after)  # type: ignore[arg-type]
    server.files["/base.pt"] = Served(CONTENT, cuts=[30_000], replaced_by=new, **before)  # type: ignore[arg-type]
    assert fetch(server, tmp_path) == OTHER
    assert starts(server.gets())[1] > 0


def test_a_file_that_becomes_shorter_than_its_part(server: FileServer, tmp_path: Path) -> None:
    new = Served(OTHER[:100], '"one"')
    server.files["/base.pt"] = Served(CONTENT, cuts=[30_000], replaced_by=new)
    assert fetch(server, tmp_path) == OTHER[:100]


def test_a_file_that_always_changes_is_given_up(server: FileServer, tmp_path: Path) -> None:
    one, two = (Served(c, e, heeds_if_range=False) for c, e in ((CONTENT, '"one"'), (OTHER, '"two"')))
    one.replaced_by, two.replaced_by = two, one
    one.cuts, two.cuts = [9000] * 99, [9000] * 99
    server.files["/base.pt"] = one
    assert "another file" in refused(server, tmp_path)


def test_a_length_that_is_too_long_is_never_believed(server: FileServer, tmp_path: Path) -> None:
    server.files["/base.pt"].announced = len(CONTENT) + 10
    assert "got another file" in refused(server, tmp_path)  # there is nothing at its supposed end
    server.files["/base.pt"].knows_ranges = False
    assert "got no whole file" in refused(server, tmp_path, sha256=SHA256)


@pytest.mark.parametrize("known", [{"sha256": SHA256}, {"length": len(CONTENT)}, {}])
def test_a_length_that_is_too_short_is_found(
    server: FileServer, tmp_path: Path, known: dict[str, str]
) -> None:
    server.files["/base.pt"] = Served(
        CONTENT, announced=len(CONTENT) - 10, headers={"x-ms-blob-content-md5": MD5}
    )
    text = refused(server, tmp_path, **known)  # type: ignore[arg-type]
    assert "another checksum" in text or f"expected the published one of {len(CONTENT):,}" in text
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_says_no_length_is_refused(server: FileServer, tmp_path: Path) -> None:
    server.files["/base.pt"].says_length = False
    assert "got no length" in refused(server, tmp_path)


@pytest.mark.parametrize("header", ["Content-MD5", "x-ms-blob-content-md5"])
def test_bytes_with_another_checksum_are_not_kept(server: FileServer, tmp_path: Path, header: str) -> None:
    server.files["/base.pt"].headers = {header: MD5}
    assert fetch(server, tmp_path) == CONTENT
    (tmp_path / "base.pt").unlink()
    server.files["/base.pt"].content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    assert "another checksum" in refused(server, tmp_path)
    server.files["/base.pt"].headers = {}
    assert "another checksum" in refused(server, tmp_path, sha256=SHA256)
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server: FileServer, tmp_path: Path) -> None:
    server.files["/base.pt"].statuses = [503, 429]
    assert fetch(server, tmp_path) == CONTENT and len(server.gets()) == 3
    (tmp_path / "base.pt").unlink()
    server.files["/base.pt"].statuses = [403]
    assert "got 403" in refused(server, tmp_path)
    assert len(server.gets()) == 4
    with pytest.raises(InputError, match=r"got 404 .* from .*/none\.pt, expected the published file"):
        look_up(f"{server.url}/none.pt")


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    with file_server({}) as server:
        pass
    with pytest.raises(InputError, match="refused"):
        look_up(f"{server.url}/base.pt")
    assert "refused" in refused(server, tmp_path) and list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_part(server: FileServer, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(InputError, match=r"got no room or permission to write .*make room"):
            download(f"{server.url}/base.pt", tmp_path / "base.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "base.pt").exists()
    assert fetch(server, tmp_path, sha256=SHA256) == CONTENT
    assert starts(server.gets())[1] == 20_000


def test_the_proxy_of_the_environment_is_used(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    download("http://files.example/base.pt", tmp_path / "base.pt", sha256=SHA256)
    assert server.lines == ["GET http://files.example/base.pt HTTP/1.1"]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert look_up(f"{server.url}/base.pt").length == len(CONTENT)
    assert server.lines[1] == "HEAD /base.pt HTTP/1.1"


@pytest.mark.parametrize("proxy", ["socks5://name:secret@127.0.0.1:1", "http://name:secret@[::1"])
def test_a_proxy_that_is_none_is_named_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="got a proxy for http from the environment that is none") as error:
        look_up("http://files.example/base.pt")
    assert "secret" not in str(error.value)


def test_marks_of_an_answer() -> None:
    assert Seen("u", 3, '"a"', TIME).mark == '"a"'
    assert Seen("u", 3, 'W/"a"', TIME).mark == TIME
    assert Seen("u", 3, 'W/"a"').mark == ""
