"""Servers of object stores on loopback, and a proxy before them that fails on request."""

from __future__ import annotations

import base64
import hmac
import http.client
import json
import logging
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import obstore
import pytest
from obstore.store import AzureStore, S3Store

import cache.objects

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

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
        seen: (method, path) of every request, failed ones included; paths with plain slashes.
        signed: headers that requests get on their way.
    """

    def __init__(self, endpoint: str, signed: dict[str, str] | None = None) -> None:
        self.faults: Faults | None = None
        self.signed = signed or {}
        self.seen: list[tuple[str, str]] = []
        upstream = endpoint.removeprefix("http://")
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                path = proxy.plain(self.path)
                proxy.seen.append((self.command, path))
                fault = proxy.faults(self.command, path) if proxy.faults else None
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
                headers = {name.title(): value for name, value in self.headers.items()}
                link.request(self.command, self.path, body, headers | proxy.signed)
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

    @staticmethod
    def plain(path: str) -> str:
        """A request's path with the name of its object as it is, and the query as it was sent."""
        name, mark, query = path.partition("?")
        return urllib.parse.unquote(name) + mark + query

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


UNCHECKED = (
    "AWS4-HMAC-SHA256 Credential=someone/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
)
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
        url: scheme and name.
        proxy: that every request passes.
    """

    url: str
    proxy: Proxy
    _direct: ObjectStore

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
def open_bucket(endpoint: str, patch: pytest.MonkeyPatch, scheme: str = "s3") -> Iterator[Bucket]:
    """An empty bucket of an S3 server; the environment has credentials and leads through the proxy.

    Google's own protocol for objects is the same but for signatures, which the server does not check.
    """
    name = f"b{uuid.uuid4().hex}"
    make_bucket(endpoint, name)
    direct = S3Store(
        name,
        endpoint=endpoint,
        access_key_id="someone",
        secret_access_key=SECRET,
        region="us-east-1",
        client_options={"allow_http": True},
    )
    if scheme == "s3":
        proxy = Proxy(endpoint)
        variables = {
            "AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": proxy.endpoint,
        }  # fmt: skip
    else:
        proxy = Proxy(endpoint, {"Authorization": UNCHECKED})
        account = {
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        variables = {
            "GOOGLE_BASE_URL": proxy.endpoint, "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account),
        }  # fmt: skip
    with _leading(patch, variables, proxy):
        yield Bucket(f"{scheme}://{name}", proxy, direct)


@contextmanager
def _leading(
    patch: pytest.MonkeyPatch, variables: Mapping[str, str], proxy: Proxy
) -> Iterator[None]:
    """The environment leads through a proxy; what fails is soon tried again."""
    for variable, value in variables.items():
        patch.setenv(variable, value)
    patch.setattr(cache.objects, "RETRY", QUICK)
    patch.setattr(cache.objects, "WAITS", (0.01, 0.05))
    cache.objects._client.cache_clear()
    try:
        yield
    finally:
        proxy.close()
        cache.objects._client.cache_clear()


AZURITE = "azurite-blob"
"""The command of Azure's own server for tests; an npm package, not installed by us."""
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of every Azurite: public."""


@contextmanager
def azure_server(folder: Path) -> Iterator[str]:
    """The address of an empty Azurite."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [AZURITE, "--blobPort", str(port), "--location", str(folder), "--skipApiVersionCheck"],
        stdout=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def open_container(endpoint: str, patch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty container of an Azurite; as :func:`open_bucket`."""
    name = f"b{uuid.uuid4().hex}"
    _make_container(endpoint, name)
    direct = AzureStore(
        name,
        account_name=ACCOUNT,
        account_key=KEY,
        endpoint=f"{endpoint}/{ACCOUNT}",
        client_options={"allow_http": True},
    )
    proxy = Proxy(endpoint)
    variables = {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        "AZURE_STORAGE_ENDPOINT": f"{proxy.endpoint}/{ACCOUNT}",
    }  # fmt: skip
    with _leading(patch, variables, proxy):
        yield Bucket(f"az://{name}", proxy, direct)


def _make_container(endpoint: str, name: str) -> None:
    """Signed as Azure documents it (shared key)."""
    headers = {
        "x-ms-date": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "x-ms-version": "2023-11-03",
    }
    lines = "".join(f"{key}:{value}\n" for key, value in headers.items())
    # method, eleven headers that are not sent, then ours and the resource
    text = f"PUT{12 * chr(10)}{lines}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = base64.b64encode(
        hmac.digest(base64.b64decode(KEY), text.encode(), "sha256")
    ).decode()
    request = urllib.request.Request(
        f"{endpoint}/{ACCOUNT}/{name}?restype=container",
        method="PUT",
        headers={**headers, "Authorization": f"SharedKey {ACCOUNT}:{signature}"},
    )
    with urllib.request.urlopen(request, timeout=10):
        pass


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
