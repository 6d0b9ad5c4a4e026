"""Keeps code that would call other machines from doing so, where nobody asked for it."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any

from fade.overlapping import Overlapping

_CALLS = frozenset(
    {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
)
"""Events of Python's audit hooks before a machine is looked up or called."""
_closed: ContextVar[bool] = ContextVar("closed", default=False)


class NoNetworkError(OSError):
    """A machine was about to be called within :func:`without_network`.

    Examples:
        >>> import socket
        >>> with without_network():
        ...     socket.create_connection(("192.0.2.1", 80))
        Traceback (most recent call last):
            ...
        fade.network.NoNetworkError: [Errno 101] no other machine is called here
    """


@contextlib.contextmanager
def without_network() -> Iterator[None]:
    """Refuse what this thread would send to other machines, before it is sent.

    What libraries keep on this machine is still found. Hubs of models are told that there is no network,
    so that they do not try again and again.

    Examples:
        >>> import socket
        >>> with without_network():
        ...     try:
        ...         socket.create_connection(("192.0.2.1", 80))
        ...     except OSError as error:
        ...         print(type(error).__name__)
        NoNetworkError
    """
    _install()
    token = _closed.set(True)
    try:
        with hub_offline():
            yield
    finally:
        _closed.reset(token)


@contextlib.contextmanager
def _hub_offline() -> Iterator[None]:
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


hub_offline = Overlapping(_hub_offline)
"""The hub's client asks nobody for what is on this machine."""


def require_network() -> None:
    """Refuse (NoNetworkError) to go on within :func:`without_network`: threads do not inherit that.

    Examples:
        >>> require_network()
        >>> with without_network():
        ...     require_network()
        Traceback (most recent call last):
            ...
        fade.network.NoNetworkError: [Errno 101] no other machine is called here
    """
    if _closed.get():
        raise NoNetworkError(errno.ENETUNREACH, "no other machine is called here")


def wanted_network(error: BaseException | None) -> bool:
    """Whether an error comes from :func:`without_network`, however libraries wrapped it.

    Examples:
        >>> error = RuntimeError("the hub fails")
        >>> error.__cause__ = NoNetworkError(errno.ENETUNREACH, "no other machine is called here")
        >>> wanted_network(error), wanted_network(RuntimeError("no such model"))
        (True, False)
    """
    seen: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        if isinstance(one, NoNetworkError) or type(one).__name__ == "OfflineModeIsEnabled":
            return True
        seen.append(one)
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None)]
        waiting = [found for found in waiting if isinstance(found, BaseException)]
    return False


@cache
def _install() -> None:
    sys.addaudithook(_refuse)  # there is no way to take one out again


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    if event not in _CALLS:
        return
    if event in ("socket.connect", "socket.sendto") and args[0].family == socket.AF_UNIX:
        return  # this machine itself
    require_network()
