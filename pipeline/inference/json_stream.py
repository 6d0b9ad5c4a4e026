"""A JSON object written piece by piece, so that a list of a million entries never is in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fade.files import atomic_write
from pipeline.artefacts.pictures import writing


def write_json_stream(content: Mapping[str, Any], path: Path) -> None:
    """Write an object in ASCII, a line for each entry of its lists; it appears when it is complete.

    Args:
        content: values by key; one that is no text, mapping or number may be any iterable, written as a
            list. Texts may hold whatever a file's name can.

    Raises:
        StoreError: the file cannot be written.
        ValueError: a number is not finite.
    """
    with (
        writing(path),
        atomic_write(path) as part,
        part.open("w", encoding="ascii", newline="\n") as file,
    ):
        for number, (key, value) in enumerate(content.items()):
            file.write(("{" if number == 0 else ",\n") + f"{_text(key)}: ")
            if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
                file.write("[")
                for place, entry in enumerate(value):
                    file.write(("\n" if place == 0 else ",\n") + _text(entry))
                file.write("]")
            else:
                file.write(_text(value))
        file.write("}\n")


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)
