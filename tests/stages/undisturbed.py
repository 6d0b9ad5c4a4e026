"""A run of all stages that nobody disturbs, to hold against runs that are killed or short of room."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.forks import End

BLOCK = 3
"""Images in a segment or block: many tasks, of which a few are done when the fault comes."""
THREADS = 2
STREAMING = "stream without features"
"""The stage stream with features.keep false; else it has nothing to do."""
PROMPTS = {
    side: [
        f"{word} {{classname}} with {number} {side} marks" for number in range(9) for word in "ab"
    ]
    for side in ("normal", "abnormal")
}


@dataclass(frozen=True)
class Undisturbed:
    """A stage that nobody disturbed.

    Attributes:
        before, after: the project around it.
        end: how it ended.
    """

    before: Path
    after: Path
    end: End


def files(folder: Path) -> dict[str, bytes]:
    """Every artefact and result by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for part in ("artefacts", "results")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }


def outputs(folder: Path) -> dict[str, bytes]:
    """The same without the records of parameters, which name the store and the like."""
    return {name: data for name, data in files(folder).items() if "/parameters/" not in name}


def rows(folder: Path, store: Path | None = None) -> Iterator[tuple[str, str, int]]:
    """Every published (space, key, checksum), duplicates included."""
    for file in (store or folder / ".fade" / "store").glob("spaces/*/index/*.json"):
        try:
            entry = json.loads(file.read_text())
        except ValueError:  # cut short, so that it publishes nothing
            continue
        for key, crc in zip(entry["keys"], entry["crc"], strict=True):
            yield file.parent.parent.name, key, crc
