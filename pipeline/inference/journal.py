"""What ``fade predict --watch`` has judged: JSON lines and a table that grow, and survive kills."""

from __future__ import annotations

import csv
import errno
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import BufferedReader, StringIO
from pathlib import Path
from typing import Any

from fade.errors import StoreError
from fade.files import NO_PLAIN_FILE, open_plain
from pipeline.artefacts.catalogue import prepare_folder
from pipeline.artefacts.csv_text import Rows
from pipeline.inference.output import COLUMNS, cells, record
from pipeline.inference.prediction import Prediction
from pipeline.inference.seen import PictureNames, Seen
from pipeline.process.json_text import json_text

LINES, TABLE = "watched.jsonl", "watched.csv"
"""The files of a journal: all that is known, and the columns of ``predictions.csv``."""

Key = tuple[str, int, int, str]
"""A file that is judged: its place, its size in bytes, its time of change in ns, and the category."""


class Journal:
    """The judged files of a folder; use as a context manager.

    A line is on the disk before its row is, and both before the next image is judged. When a journal
    is opened, half a last line goes, and rows that the table lacks are added: so after a kill both
    hold what was judged, each once.

    Args:
        folder: of the files, made if it is not there.

    Attributes:
        pictures: names of pictures that are taken.

    Raises:
        StoreError: another process writes here, or a file is none that this class wrote.
        ParameterError: the folder cannot be made or written.
        OSError: that names the file.
    """

    def __init__(self, folder: Path) -> None:
        prepare_folder(folder)
        self._paths = folder / LINES, folder / TABLE
        self._done = Seen()
        self.pictures = PictureNames()
        self._files: list[int] = []
        self._sizes: list[int] = []
        try:
            for path in self._paths:
                self._files.append(_open_to_append(path))
            _lock(self._files[0], folder)
            self._sizes = [os.fstat(number).st_size for number in self._files]
            with open_plain(self._paths[1]) as table:
                self._restore(table)
            _sync_folder(folder)  # else a power cut could take the names of both files
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, key: Key) -> bool:
        return _text(key) in self._done

    def __len__(self) -> int:
        return len(self._done)

    def close(self) -> None:
        """Close the files, and let others write them."""
        while self._files:
            os.close(self._files.pop())

    def add(self, key: Key, prediction: Prediction) -> None:
        """Note a file that was judged.

        Raises:
            StoreError: a file of the journal was moved, removed, cut or edited meanwhile.
            OSError: that names the file that cannot be written.
        """
        self._add(key, record(prediction) | {"read": True})

    def add_problem(self, key: Key, name: str, problem: str) -> None:
        """Note a file that cannot be used: a row without a score, and the reason as its remark.

        Raises:
            StoreError: a file of the journal was moved, removed, cut or edited meanwhile.
            OSError: that names the file that cannot be written.
        """
        said = {"image": name, "category": key[3], "remark": problem, "read": False}
        self._add(key, dict.fromkeys(COLUMNS) | said)

    def _add(self, key: Key, content: dict[str, Any]) -> None:
        file, size, modified, _ = key
        line = json_text(content | {"file": file, "bytes": size, "modified_ns": modified})
        self._append(0, f"{line}\n".encode())
        self._append(1, self._noted(json.loads(line)))

    def _noted(self, content: Mapping[str, Any]) -> bytes:
        """The row of a line, which counts as done from now on."""
        place = content["file"], content["bytes"], content["modified_ns"], content["category"]
        kinds = str, int, int, str
        if not all(isinstance(value, kind) for value, kind in zip(place, kinds, strict=True)):
            raise TypeError("of another type")
        self._done.add(_text(place))
        if content["heatmap"] is not None:
            self.pictures.add(os.path.splitext(os.path.basename(content["heatmap"]))[0])
        return _row(cells({column: content[column] for column in COLUMNS}))

    def _append(self, which: int, data: bytes) -> None:
        path, number = self._paths[which], self._files[which]
        there = os.fstat(number)
        try:
            is_there = os.path.samestat(path.stat(), there)
        except FileNotFoundError:
            is_there = False
        if not is_there:  # rows would go where nobody looks for them
            raise StoreError(f"{path} was moved or removed meanwhile: start this command again")
        if there.st_size != self._sizes[which]:  # rows behind a gap: no start would take them
            raise StoreError(f"{path} was cut or edited meanwhile: start this command again")
        try:
            while data:
                written = os.write(number, data)
                self._sizes[which] += written
                data = data[written:]
            os.fsync(number)
        except OSError as error:
            error.filename = str(path)
            raise

    def _restore(self, table: BufferedReader) -> None:
        """Take in what the files hold, and make both whole."""
        lines, rows = self._paths
        remedy = f"move {lines} and {rows} away, or name another --out"
        lacking = False
        for row in self._rows(remedy):
            held = b"" if lacking else table.read(len(row))
            if not row.startswith(held):
                raise StoreError(f"{rows} is not what {lines} tells: move it away to have it anew")
            if held != row:
                lacking = True
                self._append(1, row[len(held) :])
        if not lacking and table.read(1):
            raise StoreError(f"{rows} holds more than {lines}: {remedy}")

    def _rows(self, remedy: str) -> Iterator[bytes]:
        """The table's head and the row of each line."""
        path, whole = self._paths[0], 0
        yield _row(dict(zip(COLUMNS, COLUMNS, strict=True)))
        with open_plain(path) as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    row = self._noted(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                    raise StoreError(
                        f"{path}, line {number}: `fade predict --watch` wrote no such line; {remedy}"
                    ) from None
                whole += len(line)
                yield row
        os.ftruncate(self._files[0], whole)
        self._sizes[0] = whole


def _text(key: Key) -> str:
    file, size, modified, category = key
    return f"{category}\0{size}\0{modified}\0{file}"


def _row(content: Mapping[str, Any]) -> bytes:
    text = StringIO()
    csv.DictWriter(Rows(text), COLUMNS).writerow(content)
    return text.getvalue().encode()


def _open_to_append(path: Path) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    for name in ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    number = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.ENXIO, NO_PLAIN_FILE, str(path))
    return number


def _lock(number: int, folder: Path) -> None:
    """Keep others away as long as the file is open; the system lets go of what a killed one held."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(
            f"another `fade predict --watch` writes into {folder}: end it, or name another --out"
        ) from None
    except OSError:  # a file system without locks
        return


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not everywhere can folders be opened
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
