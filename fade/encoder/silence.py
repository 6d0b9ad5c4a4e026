"""open_clip builds models without a word."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fade.overlapping import Overlapping


def _serious(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


@contextmanager
def _without_warnings() -> Iterator[None]:
    root = logging.getLogger()
    root.addFilter(_serious)
    try:
        yield
    finally:
        root.removeFilter(_serious)


without_warnings = Overlapping(_without_warnings)
"""open_clip warns by the root's own log that models start with random weights; ours come right after."""
