"""Lets one prediction run at a time; others wait, and when too many do, more are told to come again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

from fade.errors import FadeError
from pipeline.serve.limits import Limits
from pipeline.stage import as_user_error

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


class Busy(Exception):
    """Too much waits, or the answer took too long: the client may come again after some seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Turn:
    """What a piece of work knows of its request.

    Args:
        end: the time (monotonic) at which nobody waits for it any more.
    """

    def __init__(self, end: float) -> None:
        self._end = end

    def give_up(self) -> None:
        """Nobody waits any more."""
        self._end = 0.0

    def check(self) -> None:
        """Give up where nobody waits any more.

        Raises:
            Busy: the time is over.
        """
        if time.monotonic() > self._end:
            raise Busy("the decision took too long: send fewer or smaller images, or come again", 5)


class Judge:
    """Runs work that needs the model in one thread of its own, one piece after the other.

    Args:
        limits: of requests that wait and of the bytes that they hold.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, "judge")
        self._waiting = 0
        self._held = 0
        self._last = 0.1

    @property
    def waiting(self) -> int:
        """Requests that wait or are at work."""
        return self._waiting

    def place(self, size: int) -> AbstractContextManager[None]:
        """A place for a request whose body has so many bytes, from before it is read.

        Raises:
            Busy: there is none.
        """
        return self._place(size)

    @contextmanager
    def _place(self, size: int) -> Iterator[None]:
        full = self._waiting >= self._limits.waiting
        if full or (self._waiting and self._held + size > self._limits.held_bytes):
            raise Busy(
                f"{self._waiting} requests wait for a decision already: come again",
                max(1, round(self._waiting * self._last)),
            )
        self._waiting += 1
        self._held += size
        try:
            yield
        finally:
            self._waiting -= 1
            self._held -= size

    async def run(
        self, work: Callable[[Turn], T], left: Callable[[], Awaitable[None]] | None = None
    ) -> T:
        """What work gives, done in its turn. What is not begun when nobody waits is never begun.

        Args:
            left: ends when the client hung up: its place is free for another one then.

        Raises:
            Busy: it took too long. What is begun ends by itself.
            ClientDisconnect: the client hung up.
        """
        seconds = self._limits.answer_seconds
        turn = Turn(time.monotonic() + seconds)

        def timed() -> T:
            turn.check()
            start = time.monotonic()
            try:
                return work(turn)
            finally:
                self._last = 0.8 * self._last + 0.2 * (time.monotonic() - start)

        future = asyncio.get_running_loop().run_in_executor(self._thread, timed)
        gone = [] if left is None else [asyncio.ensure_future(left())]
        try:
            ends: list[asyncio.Future[Any]] = [future, *gone]
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in gone:
                one.cancel()
        if future.done():
            return future.result()
        turn.give_up()
        future.add_done_callback(_forget)
        for one in gone:
            if one.done():
                one.result()
                raise ClientDisconnect
        raise Busy("the decision took too long: send fewer or smaller images, or come again", 5)

    def start(self, work: Callable[[], object], failed: Callable[[FadeError], object]) -> None:
        """Begin work that nobody waits for, such as loading the model."""

        def quiet() -> None:
            try:
                work()
            except Exception as error:
                known = as_user_error(error)  # a package that is not installed, too
                if known is None:
                    raise
                failed(known)

        self._thread.submit(quiet)

    def close(self) -> None:
        """End the thread after what it does now."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _forget(future: asyncio.Future[T]) -> None:
    if not future.cancelled():
        future.exception()
