"""Fetch a large file over HTTP: continued where the connection broke, checked, and there only once it is whole.

The bytes so far lie in NAME.part, beside them, in NAME.part.json, the marks by which the server knows the file (ETag,
Last-Modified). A later run continues; if the file at the server is another one by then, it begins again.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Retry, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util import make_headers, parse_url

from glide.checkpoints.partial_file import PartialFile, Served
from glide.utils.errors import InputError, one_line, reason_of
from glide.utils.progress import progress

CHUNK = 2**16  # bytes read at once: those of the last one are lost where a connection breaks
TRIES = 5  # in a row that bring nothing new
MAX_TRIES = 1000  # in all
MAX_CHANGES = 3  # times that the file at the server is another one
WAIT = 1.0  # seconds before the second try; twice as long before each one after it that brought nothing
PATIENCE = Timeout(connect=20.0, read=60.0)  # seconds
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # answers of a server that may be better soon
MEGABYTE = 10**6


class _Broken(Exception):
    """The connection broke, or the server is busy: the next try may continue."""


class _Changed(Exception):
    """The file at the server is not the one that was begun."""


def look_up(url: str) -> Served:
    """The server's description of a file, which is not fetched. InputError without a connection, or such a file."""
    for attempt in range(2):
        try:
            with _answer("HEAD", url, {}) as answer:
                _check_status(answer, url)
                return Served.of(url, answer.headers)
        except _Broken as error:
            if attempt:
                raise InputError(str(error)) from error
            time.sleep(WAIT)
    raise AssertionError


def download(url: str, path: Path, length: int | None = None, sha256: str | None = None) -> str:
    """Fetch a file to `path`, which appears whole or not at all; returns its SHA-256.

    length: bytes that it has to have; None takes the server's word. sha256: that it has to have; None: any.
    Continues what an earlier call began. InputError, in one sentence, where it cannot be had whole.
    """
    part = PartialFile(path)
    failed = changed = 0
    for _ in range(MAX_TRIES):
        before = part.size()
        try:
            served = _fetch_rest(url, part, length)
            break
        except _Changed as error:
            part.clear()
            changed += 1
            if changed > MAX_CHANGES:
                raise InputError(
                    f"got another file from {url} at every try ({error}), expected one that stays the same: try again "
                    "later"
                ) from error
        except _Broken as error:
            failed = 1 if part.size() > before else failed + 1
            if failed >= TRIES:
                raise InputError(_gave_up(url, part, length, str(error))) from error
            time.sleep(WAIT * 2 ** (failed - 1))
    else:
        raise InputError(_gave_up(url, part, length, f"broken off {MAX_TRIES} times"))
    found = part.check(served, sha256)
    part.finish()
    return found


def _gave_up(url: str, part: PartialFile, length: int | None, reason: str) -> str:
    size = part.size()
    of = "" if length is None else f" of {length:,}"
    kept = f"{size:,}{of} bytes are kept, and the same command continues" if size else "try again later"
    return f"got no whole file from {url} ({reason}), expected all of it: check the connection; {kept}"


def _fetch_rest(url: str, part: PartialFile, length: int | None) -> Served:
    """One request, for all that is not there yet."""
    begun = part.read_mark(url)
    offset = part.size()
    if begun is not None and offset == begun.length:
        return begun
    headers = {}
    if begun is not None and begun.mark and 0 < offset < (begun.length or 0):
        headers = {"Range": f"bytes={offset}-", "If-Range": begun.mark}
    else:
        part.clear()
    with _answer("GET", url, headers) as answer:
        _check_status(answer, url)
        if answer.status == 206 and begun is not None:
            served = begun
            _check_continues(answer, begun, offset)
        else:
            served = Served.of(url, answer.headers)
            part.clear()
        _check_length(served, part, length)
        part.write_mark(served)
        _append(answer, part, served)
    return served


def _check_continues(answer: BaseHTTPResponse, begun: Served, offset: int) -> None:
    """_Changed for a part of another file, or another part: a server may not heed If-Range."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != offset:
        raise _Changed("it sends another part than the one asked for")
    if found[2] != "*" and int(found[2]) != begun.length:
        raise _Changed(f"it has {int(found[2]):,} bytes now, {begun.length:,} before")
    now = Served.of(begun.url, answer.headers)
    if (now.etag and begun.etag and now.etag != begun.etag) or (
        now.modified and begun.modified and now.modified != begun.modified
    ):
        raise _Changed("it was written in between")


def _check_length(served: Served, part: PartialFile, length: int | None) -> None:
    if served.length is None:
        part.clear()
        raise InputError(
            f"got no length from {served.url}, expected one, by which a whole file is known: try again later"
        )
    if length is not None and served.length != length:
        part.clear()
        raise InputError(
            f"got a file of {served.length:,} bytes from {served.url}, expected the published one of {length:,}: "
            "nothing is kept; try again later, or fetch it elsewhere"
        )


def _append(answer: BaseHTTPResponse, part: PartialFile, served: Served) -> None:
    """Write all that an answer brings. _Broken where it ends early; what came is kept."""
    assert served.length is not None
    at = part.size()
    name = part.path.name
    whole = math.ceil(served.length / MEGABYTE)
    with (
        progress(total=whole, desc=f"fetching {name}", unit="MB", initial=at // MEGABYTE, leave=False) as bar,
        part.open() as file,
    ):
        try:
            for chunk in answer.stream(CHUNK, decode_content=False):
                part.write(file, chunk)
                bar.update((at + len(chunk)) // MEGABYTE - at // MEGABYTE)
                at += len(chunk)
        except HTTPError as error:
            raise _Broken(_reason(error)) from error
    if at > served.length:
        part.clear()
        raise _Broken(f"it sent {at:,} bytes, {served.length:,} were announced")
    if at < served.length:
        raise _Broken(f"it ended after {at:,} of {served.length:,} bytes")


@contextmanager
def _answer(method: str, url: str, headers: Mapping[str, str]) -> Iterator[BaseHTTPResponse]:
    """The answer to one request, its body not read yet. _Broken without a connection."""
    with _connections(url) as connections:
        try:
            answer = connections.request(
                method,
                url,
                headers={"Accept-Encoding": "identity", "User-Agent": "glide-toolkit", **headers},
                preload_content=False,
                decode_content=False,
                timeout=PATIENCE,
                retries=Retry(connect=0, read=0, other=0, status=0, redirect=5),
            )
        except HTTPError as error:
            raise _Broken(_reason(error)) from error
        try:
            yield answer
        finally:
            answer.close()


def _connections(url: str) -> PoolManager:
    """Through the proxy that the environment or the system names, as browsers go."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return PoolManager()
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        login = parse_url(proxy).auth
        return ProxyManager(proxy, proxy_headers=make_headers(proxy_basic_auth=login) if login else None)
    except HTTPError as error:  # it may hold a password, so it is not shown
        raise InputError(
            f"got a proxy for {parts.scheme} from the environment that is none ({type(error).__name__}), expected "
            f"http://HOST:PORT: correct {parts.scheme}_proxy, or name the host in no_proxy"
        ) from None


def _check_status(answer: BaseHTTPResponse, url: str) -> None:
    """InputError where the server does not give the file, _Broken where it is busy, _Changed for a part too far."""
    if answer.status in (200, 206):
        return
    said = f"{answer.status} {answer.reason or ''}".strip()
    if answer.status == 416:
        raise _Changed("it is shorter now")
    if answer.status in AGAIN:
        raise _Broken(f"the server answers {said}")
    raise InputError(
        f"got {said} from {url}, expected the published file: check the address, or try again later"
    )


def _reason(error: HTTPError) -> str:
    cause = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
    return re.sub(r"^.*?(?:Connection|Pool)\(.*?\): ", "", one_line(reason_of(cause)))
