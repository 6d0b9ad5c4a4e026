"""Settings of the whole process that several threads want for a while."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class Overlapping:
    """A context that threads may be in together: entered with the first and left with the last.

    Each thread that took a setting and put it back alone would put back what another one had set.

    Args:
        context: makes the context, once for all threads that are within it.

    Examples:
        >>> @contextlib.contextmanager
        ... def line():
        ...     print("on")
        ...     yield
        ...     print("off")
        >>> within = Overlapping(line)
        >>> with within(), within():
        ...     print("both")
        on
        both
        off
    """

    def __init__(self, context: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._within = 0
        self._exit = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Be within."""
        with self._lock:
            if not self._within:
                self._exit.enter_context(self._context())
            self._within += 1
        try:
            yield
        finally:
            with self._lock:
                self._within -= 1
                if not self._within:
                    self._exit.close()
