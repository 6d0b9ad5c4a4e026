"""``maps.zarr``: the fused maps of a run, an array (images, rows, columns) for each trial."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fade.aspect import Shape
from fade.errors import StoreError
from fade.levels import Scales
from fade.types import Trial
from pipeline.artefacts.catalogue import MAPS
from pipeline.artefacts.tables import TABLE_SCHEMA, check_schema

CHUNKS = 4
"""Chunks of maps that a reader keeps: whoever asks for a map asks for its neighbours, too."""


def create_maps(
    path: Path,
    trials: Sequence[Trial],
    images: int,
    grid: Shape,
    rows: int,
    scales: Scales | None = None,
) -> None:
    """Create ``maps.zarr`` with an array (images, *grid) for each trial, to be filled by blocks.

    Args:
        path: of the group; what lies there is replaced.
        trials: none of them makes an empty group.
        images: rows of each array.
        grid: (rows, columns) of patches.
        rows: images in a chunk: those of one block, so that no two tasks write the same chunk.
        scales: what levels stand for, where they are not FADE's 256.
    """
    import zarr

    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    group: Any = zarr.create_group(
        path, overwrite=True, zarr_format=3, attributes={"schema": TABLE_SCHEMA}
    )
    for trial in trials if images else []:
        own = {category: scale for (category, of), scale in (scales or {}).items() if of == trial}
        group.create_array(
            trial.label,
            shape=(images, *grid),
            chunks=(min(rows, images), *grid),
            dtype="uint16" if own else "uint8",
            compressors="auto",
            fill_value=0,
            attributes={
                "scales": {
                    category: {"scale": scale.step, "offset": scale.offset}
                    for category, scale in own.items()
                }
            }
            if own
            else None,
        )


def write_maps(maps: Path, first: int, trial: Trial, levels: np.ndarray) -> None:
    """Write one trial's maps (n, rows, columns), uint8 or uint16, from row ``first`` on."""
    import zarr

    group: Any = zarr.open_group(maps, mode="r+", zarr_format=3)
    # a chunk that is not there would read as one without anomalies
    with zarr.config.set({"array.write_empty_chunks": True}):
        group[trial.label][first : first + len(levels)] = levels


def map_loader(folder: Path = Path()) -> Callable[[str, int], np.ndarray | None]:
    """What reads a map (rows, columns) by its trial's label and its row; None without the trial.

    The type of the levels is uint8, or uint16 on the scale that the thresholds have, too.

    Raises:
        StoreError: ``maps.zarr`` is missing, damaged or of another schema version.
    """
    import zarr

    path = folder / MAPS.path
    try:
        group: Any = zarr.open_group(path, mode="r", zarr_format=3)
    except (OSError, ValueError):
        raise StoreError(f"{path} is missing or damaged: run `fade run --force evaluate`") from None
    check_schema(group.attrs, path)
    arrays: dict[str, Any] = dict(group.arrays())
    for name, maps in arrays.items():
        lacking = maps.nchunks - maps.nchunks_initialized
        if lacking:  # zarr reads them as zeros
            raise StoreError(
                f"{path}: {lacking} of {maps.nchunks} chunks of {name} are missing: run "
                "`fade run --force evaluate`"
            )

    @lru_cache(CHUNKS)
    def chunk(trial: str, number: int) -> np.ndarray:
        rows = arrays[trial].chunks[0]
        found: np.ndarray = arrays[trial][number * rows : (number + 1) * rows]
        found.flags.writeable = False  # several maps of it may be asked for
        return found

    def load(trial: str, row: int) -> np.ndarray | None:
        if trial not in arrays:
            return None
        try:
            number, place = divmod(row, arrays[trial].chunks[0])
            return np.asarray(chunk(trial, number)[place])
        except Exception as error:  # codecs raise their own kinds on damaged chunks
            raise StoreError(
                f"{path}: row {row} of {trial} cannot be read ({type(error).__name__}): run "
                "`fade run --force evaluate`"
            ) from None

    return load
