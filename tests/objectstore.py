"""An S3-compatible server on loopback, and a proxy before it that fails on request."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal

import obstore
import pytest
from obstore.store import S3Store

import cache.objects

if TYPE_CHECKING:
    from obstore.store import RetryConfig

Fault = Literal["cut request", "cut answer"] | int | None
"""What happens to a request: the connection is lost half-way, or a status is answered."""
Faults = Callable[[str, str], Fault]
"""Decides by method and path, query included."""


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of an empty S3 server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def make_bucket(endpoint: str, name: str) -> str:
    """Make an empty bucket; its name."""
    request = urllib.request.Request(f"{endpoint}/{name}", method="PUT")
    with urllib.request.urlopen(request, timeout=10):
        return name


class Proxy:
    """Passes requests on to a server, or fails as :attr:`faults` says.

    Attributes:
        faults: may be changed at any time; None passes everything on.
        seen: (method, path) of every request, failed ones included.
    """

    def __init__(self, endpoint: str) -> None:
        self.faults: Faults | None = None
        self.seen: list[tuple[str, str]] = []
        upstream = endpoint.removeprefix("http://")
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                proxy.seen.append((self.command, self.path))
                fault = proxy.faults(self.command, self.path) if proxy.faults else None
                length = int(self.headers.get("Content-Length") or 0)
                if fault == "cut request":
                    self.rfile.read(length // 2)
                    self._cut()
                    return
                body = self.rfile.read(length)
                if isinstance(fault, int):
                    self._answer(fault, {}, b"<Error><Code>SlowDown</Code></Error>")
                    return
                link = http.client.HTTPConnection(upstream, timeout=30)
                link.request(self.command, self.path, body, dict(self.headers))
                answer = link.getresponse()
                data = answer.read()
                link.close()
                self._answer(answer.status, dict(answer.getheaders()), data, fault == "cut answer")

            def _answer(
                self, status: int, headers: dict[str, str], data: bytes, cut: bool = False
            ) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                        self.send_header(name, value)
                length = headers.get("Content-Length", str(len(data)))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) // 2] if cut else data)
                if cut:
                    self.wfile.flush()
                    self._cut()

            def _cut(self) -> None:
                self.close_connection = True
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


SECRET = "a-secret-that-nobody-may-print"
"""The key of :func:`open_bucket`'s credentials."""
QUICK: RetryConfig = {
    "max_retries": 4,
    "backoff": {
        "init_backoff": timedelta(milliseconds=10),
        "max_backoff": timedelta(milliseconds=50),
        "base": 2,
    },
    "retry_timeout": timedelta(seconds=20),
}


@dataclass
class Bucket:
    """A bucket and the proxy before it.

    Attributes:
        url: ``s3://`` and its name.
        proxy: that every request passes.
    """

    url: str
    proxy: Proxy
    _direct: S3Store

    def names(self, prefix: str = "") -> list[str]:
        """Names of the objects below a prefix, asked of the server itself."""
        pages = obstore.list(self._direct, prefix or None)
        return sorted(entry["path"] for page in pages for entry in page)

    def put(self, name: str, data: bytes) -> None:
        """Write an object past the proxy."""
        obstore.put(self._direct, name, data)

    def get(self, name: str) -> bytes:
        """Read an object past the proxy."""
        return bytes(obstore.get(self._direct, name).bytes())

    def delete(self, name: str) -> None:
        """Delete an object past the proxy."""
        obstore.delete(self._direct, name)


@contextmanager
def open_bucket(endpoint: str, patch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket; the environment has credentials and leads through the proxy."""
    name = f"b{uuid.uuid4().hex}"
    make_bucket(endpoint, name)
    proxy = Proxy(endpoint)
    for variable, value in {
        "AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": proxy.endpoint,
    }.items():  # fmt: skip
        patch.setenv(variable, value)
    patch.setattr(cache.objects, "RETRY", QUICK)
    patch.setattr(cache.objects, "WAITS", (0.01, 0.05))
    cache.objects._client.cache_clear()
    try:
        direct = S3Store(name, endpoint=endpoint, client_options={"allow_http": True})
        yield Bucket(f"s3://{name}", proxy, direct)
    finally:
        proxy.close()
        cache.objects._client.cache_clear()


def first(count: int, fault: Fault, method: str = "", part: str = "") -> Faults:
    """The first so many requests of a method whose path holds a text fail."""
    left = [count]
    lock = threading.Lock()

    def faults(asked: str, path: str) -> Fault:
        with lock:
            if left[0] and asked.startswith(method) and part in path:
                left[0] -= 1
                return fault
            return None

    return faults


def always(fault: Fault, method: str = "", part: str = "") -> Faults:
    """All requests of a method whose path holds a text fail."""
    return first(1 << 30, fault, method, part)
