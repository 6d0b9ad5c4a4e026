"""What stands before every route, with an application of a few lines behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request

from pipeline.serve.access import Access
from pipeline.serve.guard import Guard, Refused
from pipeline.serve.limits import Limits
from pipeline.serve.telemetry import Telemetry

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
HOST = (b"host", b"127.0.0.1:80")


async def reader(scope: Any, receive: Receive, send: Send) -> None:
    """Answers when all of the request is there."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def nothing() -> Any:
    return {"type": "http.request", "body": b""}


def asked(
    *headers: tuple[bytes, bytes], method: str = "GET", app: Any = reader,
    receive: Receive = nothing, limits: Limits | None = None, telemetry: Telemetry | None = None,
) -> tuple[int, bytes, dict[bytes, bytes]]:  # fmt: skip
    """Status, body and headers of an answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    guard = Guard(app, Access("127.0.0.1"), limits or Limits(), telemetry or Telemetry())
    scope = {"type": "http", "method": method, "path": "/secret", "headers": [HOST, *headers]}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], sent[1]["body"], dict(sent[0]["headers"])


@pytest.mark.parametrize("name", [b"host", b"Origin", b"AUTHORIZATION", b"content-length"])
def test_headers_that_say_who_asks_come_once(name: bytes) -> None:
    twice = (name, HOST[1]), (name, HOST[1])
    assert asked(*twice)[0] == 400
    assert asked((b"accept", b"a"), (b"accept", b"b"))[0] == 200


@pytest.mark.parametrize("length", [b"11", b"-1", b"1e9", b""])
def test_a_length_that_is_too_much_or_no_number_is_refused(length: bytes) -> None:
    assert asked((b"content-length", length), limits=Limits(body_bytes=10))[0] == 413
    assert asked((b"content-length", b"10"), limits=Limits(body_bytes=10))[0] == 200


def test_a_body_that_comes_in_drops_is_given_up() -> None:
    """All of it has the time, not each piece."""
    drops = iter(range(30))

    async def drop() -> Any:
        await asyncio.sleep(0.02)
        more = next(drops, None) is not None
        return {"type": "http.request", "body": b"x", "more_body": more}

    status, _, headers = asked(receive=drop, limits=Limits(body_seconds=0.1))
    assert (status, headers[b"connection"]) == (408, b"close")


def test_who_takes_no_answer_is_left() -> None:
    async def stuck(message: Any) -> None:
        await asyncio.sleep(5)

    guard = Guard(reader, Access("127.0.0.1"), Limits(idle_seconds=0.05), Telemetry())
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [HOST]}
    with pytest.raises(ConnectionAbortedError, match="took no answer"):
        asyncio.run(guard(scope, nothing, stuck))


def test_clients_name_no_counters() -> None:
    """Each new name would be kept for as long as the server runs."""
    telemetry = Telemetry()
    assert asked(method="BREW", telemetry=telemetry)[0] == 405
    asked(telemetry=telemetry)
    text = telemetry.text(waiting=0, images=0)
    assert 'fade_requests_total{method="other",route="other",status="405"} 1' in text
    assert 'fade_requests_total{method="GET",route="other",status="200"} 1' in text
    assert "secret" not in text


def test_a_refusal_with_an_odd_name_is_sent() -> None:
    """Names of files may hold what no text has."""

    async def refuse(*given: Any) -> None:
        raise Refused(409, "\ud800.png is gone")

    status, body, headers = asked(app=refuse)
    assert (status, body) == (409, b'{"error": "?.png is gone"}')
    assert (headers[b"content-length"], headers[b"cache-control"]) == (b"26", b"no-store")


def test_a_client_that_hangs_up_is_no_error_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each of them was a line of the log and a status 500, which somebody is called for."""

    async def upload(scope: Any, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    telemetry = Telemetry()
    asked(app=upload, receive=gone, method="POST", telemetry=telemetry)
    assert 'status="499"} 1' in telemetry.text(waiting=0, images=0)
    assert caplog.messages == []
