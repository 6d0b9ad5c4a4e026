"""What stands before every route: who may ask, how much they may send, and what each answer says."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from fade.errors import FadeError, ParameterError, StoreError, plain
from pipeline.serve.access import Access
from pipeline.serve.judge import Busy
from pipeline.serve.limits import Limits
from pipeline.serve.telemetry import Telemetry
from pipeline.stage import as_user_error

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

OPEN = ("/health", "/login", "/page/style.css", "/page/login.js", "/page/icon.svg")
"""What may be asked for without a token: whether the server is there, and how to bring one."""
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",  # with none at all browsers send forms from "null"
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
SAFE = ("GET", "HEAD")
GONE = 499
"""What counters say of a client that hung up before it was answered, as nginx does."""
log = logging.getLogger("fade")


class Refused(Exception):
    """A request that gets no further.

    Attributes:
        headers: further ones of it.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def as_refusal(error: Exception) -> Refused:
    """What an error says to a client, in a line; what is unexpected goes into the log alone."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, Busy):
        return Refused(503, str(error), {"retry-after": str(error.retry_after)})
    if isinstance(error, ClientDisconnect):
        return Refused(GONE, "the client hung up")
    if isinstance(error, ModuleNotFoundError) and (known := as_user_error(error)):
        return Refused(422, plain(str(known)))
    if isinstance(error, FadeError):
        status = 400 if isinstance(error, ParameterError) else 422
        return Refused(409 if isinstance(error, StoreError) else status, plain(str(error)))
    reason = " ".join(str(error).split())
    log.error("unexpected %s: %s", type(error).__name__, plain(reason)[:500])
    return Refused(500, "unexpected error: the server's own output says more")


async def hung_up(request: Request) -> None:
    """End when the client of a request hung up; what else it sends is passed over."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Guard:
    """Stands before an application."""

    def __init__(self, app: App, access: Access, limits: Limits, telemetry: Telemetry) -> None:
        self._app, self._access, self._limits, self._telemetry = app, access, limits, telemetry

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        status, complete, asked = 0, False, scope["method"]

        async def safe_send(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": _with_headers(message["headers"])}
            await asyncio.wait_for(send(message), self._limits.idle_seconds)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                complete = True

        try:
            headers = _headers(scope)
            self._check(scope, headers)
            if scope["method"] == "HEAD":  # as GET, of which the server sends the head alone
                scope = {**scope, "method": "GET"}
            await self._app(scope, self._bounded(receive, headers), safe_send)
        except TimeoutError:  # the client takes nothing: there is nobody to answer to
            raise ConnectionAbortedError("the client took no answer") from None
        except Exception as error:
            if complete:  # answered, and raised again to be noted
                return
            if status:
                raise ConnectionAbortedError(str(error)) from None
            await self._refuse(as_refusal(error), safe_send)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = asked if asked in (*SAFE, "POST") else "other"
            self._telemetry.add_request(method, route, status)

    def _check(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        if scope["method"] not in (*SAFE, "POST"):
            raise Refused(405, "the method is not known here: GET or POST", {"allow": "GET, POST"})
        host = headers.get("host")
        if not self._access.knows_host(host):
            raise Refused(
                403,
                "the Host header names another server: ask by its address, or give --allow-host",
            )
        assert host is not None
        site = headers.get("sec-fetch-site")
        if not self._access.same_site(
            headers.get("origin"), host, None if scope["method"] in SAFE else site
        ):
            raise Refused(403, "the request comes from a page of another server")
        path = scope["path"]
        admitted = self._access.admits(headers.get("authorization"), headers.get("cookie"))
        if path not in OPEN and not admitted:
            if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                raise Refused(303, "bring the token", {"location": "/login"})
            raise Refused(
                401, "bring the token: Authorization: Bearer TOKEN", {"www-authenticate": "Bearer"}
            )

    def _bounded(self, receive: Receive, headers: Mapping[str, str]) -> Receive:
        """A body of so many bytes at most, in so many seconds."""
        most = self._limits.body_bytes
        given = headers.get("content-length", "0")
        if not given.isdecimal() or int(given) > most:
            raise Refused(413, f"a request may have {most:,} bytes", {"connection": "close"})
        end = time.monotonic() + self._limits.body_seconds
        read, complete = 0, False

        async def bounded() -> Message:
            nonlocal read, complete
            if complete:  # from here on it tells whether the client went away
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                raise Refused(
                    408, f"the request did not arrive within {self._limits.body_seconds:g} s",
                    {"connection": "close"},
                ) from None  # fmt: skip
            read += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if read > most:
                raise Refused(413, f"a request may have {most:,} bytes", {"connection": "close"})
            return message

        return bounded

    async def _refuse(self, refused: Refused, send: Send) -> None:
        body = json.dumps({"error": str(refused)}, ensure_ascii=False).encode("utf-8", "replace")
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **refused.headers,
        }
        await send(
            {
                "type": "http.response.start",
                "status": refused.status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": body})


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    """Headers by name. One that says who asks may come once: two would mean two things."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in found and name in ("host", "origin", "authorization", "content-length"):
            raise Refused(400, f"the request has two {name} headers")
        found.setdefault(name, value.decode("latin-1"))
    return found


def _with_headers(given: Any) -> list[tuple[bytes, bytes]]:
    present = {bytes(name).lower() for name, _ in given}
    added = {**HEADERS, "cache-control": "no-store"}
    return [
        *given,
        *((n.encode(), v.encode()) for n, v in added.items() if n.encode() not in present),
    ]
