"""The labels that people correct on the page, kept in the project's ``labels.csv``."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.artefacts.labels import read_labels, write_labels

Stamp = tuple[int, int, int] | None


class LabelBook:
    """The corrected labels of a project. Each change is on the disk before it is answered.

    The file may be edited beside: it is read again when it changed.

    Args:
        path: of the file, which need not be there.

    Raises:
        DataError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._stamp: Stamp = None
        self._labels: dict[str, bool] = {}
        self._read()

    @property
    def stamp(self) -> Stamp:
        """Another one after each change of the file."""
        return self._stamp

    def labels(self) -> dict[str, bool]:
        """Whether each corrected image is anomalous, by its path.

        Raises:
            DataError: the file changed and cannot be used.
        """
        with self._lock:
            self._read()
            return dict(self._labels)

    def set(
        self, image: str, label: bool | None, check: Callable[[bool | None], None] | None = None
    ) -> Stamp:
        """Keep the label of an image, or forget it; the stamp of the file before.

        Args:
            image: its path.
            label: None forgets.
            check: gets the label that is kept so far, and may raise what leaves it.

        Raises:
            DataError: the file changed and cannot be used.
            OSError: it cannot be written.
        """
        file = Path(os.path.realpath(self.path))  # a link to labels that projects share stays one
        with self._lock, _alone(file.parent):
            self._read()
            before, labels = self._stamp, dict(self._labels)
            if check:
                check(labels.get(image))
            if label is None:
                labels.pop(image, None)
            else:
                labels[image] = label
            write_labels(labels, file)
            self._labels, self._stamp = labels, self._stat()
            return before

    def changed(self) -> bool:
        """Whether the file is another one than was read last."""
        return self._stat() != self._stamp

    def _read(self) -> None:
        stamp = self._stat()
        if stamp != self._stamp:
            self._labels, self._stamp = read_labels(self.path), stamp

    def _stat(self) -> Stamp:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other servers of a project from changing its labels meanwhile, where the system has locks."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
