"""A local HTTP server of a few files that misbehaves as a test asks: it breaks off, lies, or changes its files."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Served:
    """One file, and how it is served."""

    content: bytes
    etag: str = '"one"'
    modified: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """More headers of every answer."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers breaks off."""
    statuses: list[int] = field(default_factory=list)
    """Statuses of the next answers to GET, without content."""
    announced: int | None = None
    """Content-Length of the whole file, where it is not the true one."""
    says_length: bool = True
    knows_ranges: bool = True
    heeds_if_range: bool = True
    replaced_by: "Served | None" = None
    """Takes its place after the first GET."""
    held_by: threading.Event | None = None
    """The content comes once this is set, but for its beginning."""
    held_at: int = 0
    """Bytes that come before."""


@dataclass
class FileServer:
    """The server: its address, its files by path, and what was asked of it."""

    url: str
    files: dict[str, Served]
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """(method, path, Range) of each request."""
    lines: list[str] = field(default_factory=list)
    """The first line of each request."""

    def gets(self, path: str = "") -> list[str]:
        """The Range of each GET of a path, or of all."""
        return [bytes_ for method, at, bytes_ in self.asked if method == "GET" and path in ("", at)]


@contextmanager
def file_server(files: dict[str, Served]) -> Iterator[FileServer]:
    """Serve `files` by path ("/base.pt") on this machine until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def log_message(self, *args: object) -> None:
            pass

        def answer(self, body: bool) -> None:
            path = urlsplit(self.path).path
            asked = self.headers.get("Range", "")
            server.asked.append((self.command, path, asked))
            server.lines.append(self.requestline)
            file = server.files.get(path)
            if file is None:
                self.send_error(404)
                return
            if body and file.statuses:
                self.send_response(file.statuses.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if body and file.replaced_by is not None:
                server.files[path] = file.replaced_by
            self.send_file(file, asked, body)

        def send_file(self, file: Served, asked: str, body: bool) -> None:
            condition = self.headers.get("If-Range", "")
            fresh = not file.heeds_if_range or condition in (file.etag, file.modified)
            start = int(asked[len("bytes=") : -1]) if asked and file.knows_ranges and fresh else 0
            if start and start >= len(file.content):
                self.send_response(416)
                self.end_headers()
                return
            total = len(file.content) if file.announced is None else file.announced
            self.send_response(206 if start else 200)
            if file.says_length:
                self.send_header("Content-Length", str(total - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            for name, value in {"ETag": file.etag, "Last-Modified": file.modified, **file.headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if not body:
                return
            end = start + file.cuts.pop(0) if file.cuts else len(file.content)
            if file.held_by is not None:
                self.wfile.write(file.content[start : start + file.held_at])
                start += file.held_at
                self.wfile.flush()
                file.held_by.wait(300)
            with suppress(ConnectionError):  # its client may have been killed
                self.wfile.write(file.content[start:end])

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = FileServer(f"http://127.0.0.1:{http.server_port}", files)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def starts(ranges: Sequence[str]) -> list[int]:
    """The first byte of each Range; 0 without one."""
    return [int(one[len("bytes=") : -1]) if one else 0 for one in ranges]
