"""Marks by which the workers of a cluster show that they see the folders of the run, and no copies."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

from cache.files import Location
from cache.location import open_files

Mark = tuple[Location, str]
"""A place, and the name of an empty file that the run left in it."""


@contextmanager
def marked(places: Iterable[Location]) -> Iterator[tuple[Mark, ...]]:
    """Leave a mark in each place meanwhile; a place that cannot be written to gets none."""
    left = []
    try:
        for files in map(open_files, places):
            # should it stay, `fade cache prune` takes it from a store
            name = f"{uuid.uuid4().hex}.part"
            with suppress(OSError):
                files.write(name, b"")
                left.append((files, name))
        yield tuple((files.location, name) for files, name in left)
    finally:
        for files, name in left:
            with suppress(OSError):
                files.delete([name])


def first_unseen(marks: Iterable[Mark], seconds: float) -> Location | None:
    """The first place whose mark cannot be seen from this process.

    Args:
        seconds: to look for a mark: a network file system may show a new file late.
    """
    return next((place for place, name in marks if not _sees(place, name, seconds)), None)


@lru_cache(maxsize=64)
def _sees(place: Location, name: str, seconds: float) -> bool:
    files = open_files(place)
    until = time.monotonic() + seconds
    while not files.exists(name):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
