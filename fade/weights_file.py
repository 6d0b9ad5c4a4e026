"""Tells checkpoints from files that are cut short or hold text, without reading their weights."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

from fade.errors import ModelError
from fade.files import open_plain

_HEADER = 100_000_000
"""Largest header of a safetensors file, in bytes, as the format has it."""


_TEXT = 64
"""Bytes at the start of a file that tell whether it is a text."""


def check_complete(file: Path, label: str) -> None:
    """Refuse a file that is no whole file of weights: cut short by a copy, or a text in its place.

    Safetensors say in their header where the last tensor ends; archives of ``torch.save`` end with
    their list of entries. A text is what a download without the rights for it leaves (a web page), and
    a clone without Git LFS (a pointer). Other files are passed over: whoever reads them finds out.

    Args:
        file: of weights.
        label: the parameter that names it.

    Raises:
        ModelError: it is empty, cut short, a text, or cannot be opened.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     Path(place, "clip.safetensors").touch()
        ...     try:
        ...         check_complete(Path(place, "clip.safetensors"), "model.pretrained")
        ...     except ModelError as error:
        ...         print(str(error).replace(place, "FOLDER"))
        model.pretrained: FOLDER/clip.safetensors is empty (0 bytes): copy the weights again
    """
    try:
        with open_plain(file) as content:
            size = os.fstat(content.fileno()).st_size
            start = content.read(9)
            cut = _cut(start, size, content.read(_length(start) - 1)) if size else False
            if start.startswith(b"PK\x03\x04"):
                cut = not zipfile.is_zipfile(content)
            content.seek(0)
            text = _text(content.read(_TEXT))
    except OSError as error:
        raise ModelError(f"{label}: {file} cannot be opened ({error.strerror or error})") from None
    if not size or cut:
        state = "is cut short" if size else "is empty"
        raise ModelError(f"{label}: {file} {state} ({size:,} bytes): copy the weights again")
    if text:
        raise ModelError(
            f"{label}: {file} holds no weights but a text, which begins with {text!r}: fetch the file "
            "itself (a page comes where a login is asked for, a pointer where Git LFS is missing)"
        )


def _text(start: bytes) -> str:
    """The first line of what begins like a text; nothing of what cannot be one."""
    try:
        lines = start.decode("ascii").split("\n")
    except UnicodeDecodeError:
        return ""
    lines = [" ".join(line.split()) for line in lines]
    return next(filter(None, lines), "") if "".join(lines).isprintable() else ""


def _length(start: bytes) -> int:
    """Bytes of a safetensors file's header; 1 where it is no such file."""
    length = int.from_bytes(start[:8], "little")
    return length if start[8:] == b"{" and length <= _HEADER else 1


def _cut(start: bytes, size: int, rest: bytes) -> bool:
    """Whether a safetensors file ends before its last tensor does."""
    length = _length(start)
    if length == 1:
        return False
    if size < 8 + length:
        return True
    try:
        tensors = json.loads(start[8:] + rest)
        ends = [one["data_offsets"][1] for name, one in tensors.items() if name != "__metadata__"]
        return size < 8 + length + max(ends, default=0)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return False  # no such file after all, or a damaged one
