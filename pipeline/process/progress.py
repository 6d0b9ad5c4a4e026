"""Progress of long work: a bar with rate and time left, or log lines where there is no terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

from fade.errors import counted

log = logging.getLogger("fade")

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts finished items of a known total; use as a context manager.

    On a terminal it draws a bar. Elsewhere it says a line every few seconds, none for short work: by
    default to the log.
    """

    def __init__(
        self,
        total: int,
        label: str,
        unit: str = "image",
        say: Callable[[str], None] = lambda line: log.info("%s", line),
    ) -> None:
        self.total, self.label, self.unit, self.done = total, label, unit, 0
        self._say = say
        self._start = self._last = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=label, unit=unit, delay=1, dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, count: int = 1) -> None:
        """Report that so many more items are finished."""
        self.done += count
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(count)
        elif self.done and now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            rate = self.done / (now - self._start)
            left = (self.total - self.done) / rate
            self._say(
                f"{self.label}: {self.done} of {counted(self.total, self.unit)}, "
                f"{rate:.3g} a second, {_duration(left)} left"
            )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
