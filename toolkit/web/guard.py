"""The guard before the app: who may ask, from where, and how much; and the headers of every answer.

It is a plain ASGI layer, so that a body is limited while it arrives, before anything decodes it. Imports nothing heavy.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any

from glide.utils.errors import InputError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "glide-token"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SHORTEST_TOKEN = 12
TOKEN = re.compile(rf"[A-Za-z0-9_-]{{{SHORTEST_TOKEN},200}}")
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
OPEN = ("/healthz",)
"""Paths that need no token."""


class Refused(InputError):
    """A request that is not let in. status: of HTTP. kind: one word for /metrics."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


def check_access(host: str, token: str | None) -> None:
    """InputError for an address beyond this machine without a token, and for a token that is guessed too fast."""
    if token is not None and not TOKEN.fullmatch(token):
        raise InputError(
            f"got --auth with {len(token)} characters, expected at least {SHORTEST_TOKEN} letters, digits, - or _: "
            "take those of `openssl rand -hex 16`"
        )
    if token is None and host.strip("[]") not in LOOPBACK:
        raise InputError(
            f"got --host {host} without a token, expected one for an address that other machines reach: add --auth "
            "TOKEN, or leave --host out"
        )


@dataclass(frozen=True)
class Guard:
    """The app behind a check of every request. token: None lets in whoever reaches this machine's own address."""

    app: App
    token: str | None
    most_bytes: int
    """Of a body."""
    refused: Callable[[str], None]
    """Counts a refusal by its kind."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        try:
            cookie = self._check(scope)
            self._check_length(scope)
        except Refused as error:
            self.refused(error.kind)
            await _refuse(scope, receive, send, error)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self.app(scope, self._limited(receive), _with_headers(send, cookie))

    def _check(self, scope: Scope) -> bytes | None:
        """The cookie to set, if any. Refused for a strange host, another site, and a missing token."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self.token is None and _name_of(host) not in LOOPBACK:
            # a name of another's that leads here (DNS rebinding) would let that site's pages read everything
            raise Refused(403, "host", f"got the host {host!r}, expected localhost: open http://localhost")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise Refused(
                403, "origin", f"got a request from {origin}, expected this server's own page: open that"
            )
        if headers.get("sec-fetch-site") == "cross-site" and scope["path"] != "/":
            raise Refused(
                403, "origin", "got a request from another site, expected this server's own page: open that"
            )
        if self.token is None or scope["path"] in OPEN:
            return None
        asked = scope.get("query_string", b"").decode("latin-1")
        if scope["path"] == "/" and asked.startswith("token=") and self._is_token(asked[6:]):
            return f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/".encode()
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if (scheme.lower() == "bearer" and self._is_token(given.strip())) or self._is_token(_cookie(headers)):
            return None
        raise Refused(
            401, "token", "got no token, or a wrong one, expected that of --auth: open /?token=TOKEN"
        )

    def _is_token(self, given: str) -> bool:
        assert self.token is not None
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def _check_length(self, scope: Scope) -> None:
        """Refused for a body that says itself that it is too long."""
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value[:20]) > self.most_bytes):
                raise self._too_long()

    def _too_long(self) -> Refused:
        most = f"{self.most_bytes / 2**20:g} MB"
        return Refused(
            413, "size", f"got a body that is too long, expected at most {most}: send a smaller picture"
        )

    def _limited(self, receive: Receive) -> Receive:
        """Receives no more than the limit, also of a body that does not say its length."""
        left = self.most_bytes

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                self.refused("size")
                raise self._too_long()
            return message

        return limited


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    name = host.strip().lower()
    if name.startswith("["):
        name, closed, _ = name[1:].partition("]")
        return name if closed else ""
    return name.partition(":")[0]


def _cookie(headers: dict[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _with_headers(send: Send, cookie: bytes | None) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            extra = [(b"set-cookie", cookie)] if cookie else []
            names = {name for name, _ in message.get("headers", [])}
            more = [pair for pair in HEADERS if pair[0] not in names]
            message = {**message, "headers": [*message.get("headers", []), *more, *extra]}
        await send(message)

    return sent


async def _refuse(scope: Scope, receive: Receive, send: Send, error: Refused) -> None:
    """One sentence, in the form of the interface that was asked."""
    from starlette.responses import JSONResponse
    from starlette.websockets import WebSocketClose

    if scope["type"] == "websocket":
        await WebSocketClose(4000 + error.status, str(error)[:120])(scope, receive, send)
        return
    body = {
        "error": {"message": str(error), "type": "invalid_request_error", "param": None, "code": error.kind}
    }
    await JSONResponse(body, error.status)(scope, receive, _with_headers(send, None))
