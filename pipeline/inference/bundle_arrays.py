"""Arrays of a bundle, checked: a ValueError says what is wrong, and the reader makes a line of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fade.bank import normalized_float32
from fade.text import read_array

_LENGTH_TOLERANCE = 1e-3
"""Largest difference from 1 of the length of a bank's vectors: twice what float16 rounds."""


def checked_array(name: str, data: bytes) -> np.ndarray:
    """An array of vectors or of images of them, in float16 or float32."""
    array = read_array(data)
    if array.dtype not in (np.float16, np.float32) or array.ndim not in (2, 3) or not array.size:
        raise ValueError(f"{name} has type {array.dtype} and shape {array.shape}")
    return array


def bank_vectors(name: str, data: bytes, unit: bool) -> np.ndarray:
    """Vectors of a bank as float32, finite.

    Args:
        unit: whether they have length 1: CLIP's by any metric, which are float16 as the store keeps them,
            and what is compared by cosine.
    """
    array = checked_array(name, data)
    if not unit:
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds numbers that are not finite")
        return np.asarray(array, np.float32)
    with np.errstate(all="ignore"):
        lengths = np.sqrt(np.einsum("...i,...i->...", array, array, dtype=np.float32))
        sound = np.abs(lengths - 1) <= _LENGTH_TOLERANCE  # which NaN is not
    if not sound.all():
        worst = lengths.ravel()[int(sound.argmin())]
        raise ValueError(
            f"row {int(sound.argmin())} of {name} has length {worst:.4g}, but rows have length 1"
        )
    return normalized_float32(array)


def images_of(arrays: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """By view the images of a sample, each (patches, dim)."""
    if len({len(one) for one in arrays.values()}) != 1 or any(a.ndim != 3 for a in arrays.values()):
        raise ValueError("the images of a batch are not the same in all views")
    return {view: list(array) for view, array in arrays.items()}
