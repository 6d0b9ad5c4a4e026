"""The process that serves: one socket, slow clients cut off, an end in order."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import webbrowser
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fade.errors import ParameterError
from pipeline.serve.guard import Guard
from pipeline.serve.limits import Limits

CLOSING_SECONDS = 5
"""For answers that are under way when the server ends."""


def _patient(limits: Limits) -> type[asyncio.Protocol]:
    """A connection that is cut when its client is too slow: to ask, to send, or to take the answer."""
    whole = limits.header_seconds, limits.body_seconds + limits.answer_seconds + limits.idle_seconds

    class Connection(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect(whole[0])

        def connection_lost(self, exc: Exception | None) -> None:
            self._expect(None)
            super().connection_lost(exc)

        def handle_events(self) -> None:
            before = self.cycle
            super().handle_events()
            if self.cycle is not before:  # the head of a request is whole
                self._expect(whole[1])
            elif self._timer is None and (self.cycle is None or self.cycle.response_complete):
                self._expect(whole[0])

        def on_response_complete(self) -> None:
            self._expect(None)
            super().on_response_complete()

        def _expect(self, seconds: float | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = (
                None if seconds is None else self.loop.call_later(seconds, self.transport.abort)
            )

    return Connection


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0 takes one that is free.

    Raises:
        ParameterError: the address cannot be had.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, number)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ParameterError(
            f"{host}, port {port} cannot be listened on ({reason}): choose another --host or --port"
        ) from None
    return found


def make_server(
    app: Guard, limits: Limits, *, browse: str | None = None,
    say: Callable[[], None] = lambda: None,
) -> Server:  # fmt: skip
    """A server that is not running yet.

    Args:
        limits: of time and connections.
        browse: an address to open in a browser when requests are answered.
        say: is called at that moment.
    """
    for library in ("uvicorn", "python_multipart"):  # what clients send wrong is told to them alone
        logging.getLogger(library).setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        app, http=_patient(limits), ws="none", lifespan="on", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=limits.connections,
        timeout_keep_alive=int(limits.idle_seconds), timeout_graceful_shutdown=CLOSING_SECONDS,
    )  # fmt: skip
    return Server(config, browse, say)


class Server(uvicorn.Server):
    """Serves until SIGINT or SIGTERM, or until ``should_exit`` is set; answers under way are ended."""

    def __init__(self, config: uvicorn.Config, browse: str | None, say: Callable[[], None]) -> None:
        super().__init__(config)
        self._browse, self._say = browse, say

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._say()
        if self._browse is not None:
            opening: Any = webbrowser.open
            threading.Thread(target=opening, args=(self._browse,), daemon=True).start()

    def serve_on(self, listening: socket.socket) -> None:
        """Serve on a socket, see :func:`bound_socket`, until it is asked to end."""
        try:
            self.run(sockets=[listening])
        except (KeyboardInterrupt, SystemExit):
            if not self.started:
                raise
            # it was asked to end, and did
