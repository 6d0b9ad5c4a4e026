"""A bundle as a file: the entries that it may hold, and how they are read."""

from __future__ import annotations

import mmap
import os
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from json import loads
from pathlib import Path
from typing import Any

from fade.errors import FadeError, StoreError, first_line, refusal
from fade.files import open_plain

REMEDY = "write it again with `fade bundle`"
_MIB = 1 << 20
ENTRIES: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"bundle\.json"), 64 * _MIB),
    (re.compile(r"prompts\.json"), 256 * _MIB),
    (re.compile(r"model\.json"), _MIB),
    (re.compile(r"encoder\.json"), _MIB),
    (re.compile(r"(weights|encoder)\.safetensors"), 32 << 30),
    (re.compile(r"text/[0-9a-f]{40}\.npz"), 1 << 30),
    (re.compile(r"onnx/model\.json"), 16 * _MIB),
    (re.compile(r"onnx/(encoder|vision[0-9]{1,3})\.onnx"), 64 * _MIB),
    (re.compile(r"onnx/weights"), 32 << 30),
    (re.compile(r"onnx/positions\.npz"), 1 << 30),
    (re.compile(r"onnx/prompts\.npz"), 1 << 30),
    (re.compile(r"(banks|rules)/[0-9]{1,6}/(view)?[0-9]{1,5}\.npy"), 64 << 30),
)
"""Names that a bundle may hold, and how many bytes each."""
MAX_ENTRIES = 100_000


class BundleFile:
    """A bundle's file, opened: a zip whose entries are those that a bundle has.

    Attributes:
        archive: the zip.
        entries: by name.

    Raises:
        StoreError: missing, damaged, or no bundle.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with self.reading():
                self._file = open_plain(path)
                self._stamp = _stamp(os.fstat(self._file.fileno()))
                self.archive = zipfile.ZipFile(self._file)
        except FileNotFoundError:
            raise StoreError(
                f"there is no bundle at {path}: write one with `fade bundle`"
            ) from None
        self.entries = self._checked(self.archive)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn what damaged files raise into one line."""
        try:
            yield
        except (FadeError, FileNotFoundError):
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError,
                NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:  # fmt: skip
            from pydantic import ValidationError

            from pipeline.config.values import clause

            wrong = error.errors() if isinstance(error, ValidationError) else None
            refused = refusal(error) if isinstance(error, OSError) else None
            reason = clause(wrong[0]) if wrong else refused or first_line(error)
            raise StoreError(f"{self.path} is not a valid bundle ({reason}): {REMEDY}") from None

    def _checked(self, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
        """The entries by name: only names that a bundle has, stored as they are, not too large."""
        entries: dict[str, zipfile.ZipInfo] = {}
        infos = archive.infolist()
        if len(infos) > MAX_ENTRIES:
            raise StoreError(f"{self.path} is no bundle: it holds {len(infos)} entries")
        told, size = sum(info.compress_size for info in infos), self.path.stat().st_size
        if told > size:
            raise StoreError(
                f"{self.path} is not a valid bundle: its entries are {told:,} bytes long, the file "
                f"{size:,}: {REMEDY}"
            )
        for info in infos:
            limit = next((n for form, n in ENTRIES if form.fullmatch(info.filename)), None)
            stored = (
                info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
            )
            if limit is None or not stored or info.filename in entries or info.flag_bits & 1:
                raise StoreError(
                    f"{self.path} is no bundle: its entry {info.filename[:100]!r} is none that "
                    "`fade bundle` writes"
                )
            if info.file_size > limit:
                raise StoreError(
                    f"{self.path}: {info.filename} has {info.file_size:,} bytes, at most {limit:,} "
                    "are read"
                )
            entries[info.filename] = info
        return entries

    def bytes(self, name: str) -> bytes:
        """An entry."""
        with self.reading():
            return self.archive.read(self.entries[name])

    def start(self, name: str) -> int:
        """At which byte of the file an entry begins."""
        with self.reading():
            entry = self.entries[name]
            self.archive.open(entry).close()  # holds the header there against the list of entries
            self._file.seek(entry.header_offset)
            header = self._file.read(30)  # its last two numbers tell how long names are
            return entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))

    def mapped(self, name: str) -> memoryview:
        """The bytes of an entry where they lie in the file, which are read when they are used."""
        with self.reading():
            start = self.start(name)
            whole = memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
            return whole[start : start + self.entries[name].file_size]

    def is_there(self) -> bool:
        """Whether its path still leads to the file that was opened, which nobody has written to."""
        try:
            return _stamp(self.path.stat()) == self._stamp
        except OSError:
            return False

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object of an entry."""
        with self.reading():
            content = loads(self.bytes(name))
            if not isinstance(content, dict):
                raise ValueError(f"{name} holds no JSON object")
            return content


def _stamp(known: os.stat_result) -> tuple[int, ...]:
    return known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns
