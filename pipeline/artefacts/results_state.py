"""What tells whether a project ran again."""

from __future__ import annotations

from pathlib import Path

from pipeline.artefacts.catalogue import MAPS, SCORES, THRESHOLDS

State = tuple[tuple[int, int, int] | None, ...]
"""Of each file of results its time, size and number; None where it is not there."""


def results_state(folder: Path) -> State:
    """What tells whether a project's results are those that were opened."""
    files = (SCORES.path, THRESHOLDS.path, MAPS.path / "zarr.json")
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            one = (folder / file).stat()
        except OSError:
            found.append(None)
        else:
            found.append((one.st_mtime_ns, one.st_size, one.st_ino))
    return tuple(found)
